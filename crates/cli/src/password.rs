//! Passwords: from a file, the environment or the terminal, and never from the command line, which others can read.

use std::path::Path;

use zeroize::Zeroizing;

use crate::failure::Failure;
use crate::key_files::read_password;
use crate::output::Output;

/// A password, wiped when it is dropped.
pub(crate) type Password = Zeroizing<String>;

/// Which password is meant, and where it may come from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Source<'a> {
    /// As in "password of …".
    pub(crate) of: &'a str,
    /// The file that was named.
    pub(crate) file: Option<&'a Path>,
    /// The option that names it.
    pub(crate) option: &'a str,
    /// The variable of the environment.
    pub(crate) variable: &'a str,
}

impl Source<'_> {
    /// The password that was given in a file or in the environment. An empty one is none.
    pub(crate) fn given(&self) -> Result<Option<Password>, Failure> {
        let text = match self.file {
            Some(file) => Some(read_password(file)?),
            None => std::env::var(self.variable).ok(),
        };
        Ok(text.filter(|text| !text.is_empty()).map(Zeroizing::new))
    }

    /// Asks on the terminal.
    pub(crate) async fn ask(&self, output: &Output) -> Result<Password, Failure> {
        self.question(&format!("Password of {}: ", self.of), output).await
    }

    /// Asks for a new one, twice. `None` if the user wants none.
    pub(crate) async fn ask_new(&self, output: &Output) -> Result<Option<Password>, Failure> {
        let question = format!("New password of {} (empty for none): ", self.of);
        let first = self.question(&question, output).await?;
        if first.is_empty() {
            return Ok(None);
        }
        if self.question("Once more: ", output).await? != first {
            return Err(Failure::Usage("the two passwords differ".to_owned()));
        }
        Ok(Some(first))
    }

    async fn question(&self, question: &str, output: &Output) -> Result<Password, Failure> {
        let nowhere = || {
            Failure::Usage(format!(
                "the password of {} is needed, and there is no terminal to ask on: name a file with {}, or set {}",
                self.of, self.option, self.variable
            ))
        };
        let terminal = terminal::Silent::open().map_err(|_| nowhere())?;
        let mut reader = terminal.reader().map_err(|_| nowhere())?;
        output.ask(question);
        let (read, line) = tokio::sync::oneshot::channel();
        // A thread of its own: it may stay in the read until the process ends.
        std::thread::spawn(move || {
            let mut line = Zeroizing::new(String::new());
            let result = std::io::BufRead::read_line(&mut reader, &mut line).map(|_| line);
            // Whoever asked may have been interrupted.
            let _ = read.send(result);
        });
        let line = line.await.map_err(|error| Failure::Internal(error.to_string()))?;
        drop(terminal);
        output.answered();
        let line = line.map_err(|error| Failure::Local(format!("cannot read the terminal: {error}")))?;
        Ok(Zeroizing::new(line.trim_end_matches(['\r', '\n']).to_owned()))
    }
}

#[cfg(unix)]
mod terminal {
    use std::fs::File;
    use std::io::{self, BufReader};

    use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

    /// The terminal, which does not show what is typed until this is dropped.
    pub(super) struct Silent {
        terminal: File,
        before: Termios,
    }

    impl Silent {
        pub(super) fn open() -> io::Result<Self> {
            let terminal = File::options().read(true).write(true).open("/dev/tty")?;
            let before = tcgetattr(&terminal)?;
            let mut silent = before.clone();
            silent.local_modes -= LocalModes::ECHO;
            silent.local_modes |= LocalModes::ECHONL;
            tcsetattr(&terminal, OptionalActions::Flush, &silent)?;
            Ok(Self { terminal, before })
        }

        pub(super) fn reader(&self) -> io::Result<BufReader<File>> {
            Ok(BufReader::new(self.terminal.try_clone()?))
        }
    }

    impl Drop for Silent {
        fn drop(&mut self) {
            // Nothing more can be done about a terminal that is gone.
            let _ = tcsetattr(&self.terminal, OptionalActions::Now, &self.before);
        }
    }
}

#[cfg(not(unix))]
mod terminal {
    use std::io;

    /// There, nothing is asked: what is typed would show.
    pub(super) struct Silent;

    impl Silent {
        pub(super) fn open() -> io::Result<Self> {
            Err(io::ErrorKind::Unsupported.into())
        }

        pub(super) fn reader(&self) -> io::Result<io::BufReader<io::Empty>> {
            Err(io::ErrorKind::Unsupported.into())
        }
    }
}
