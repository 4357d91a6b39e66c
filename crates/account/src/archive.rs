//! The account's key and what belongs to it, as a file: Jami's `archive.gz`.
