//! Exit codes, for the help text.

/// What stands below the help.
pub(super) const AFTER_HELP: &str = "\
Exit codes:
  0    done
  1    internal error
  2    wrong use of the command line
  3    the device cannot be reached; the message names the step that failed
  4    the other side refused
  5    a transfer broke off, or what came is damaged
  6    local files, the output, the identity or a port that was asked for are not usable
  130  interrupted

See it at work: towline demo";
