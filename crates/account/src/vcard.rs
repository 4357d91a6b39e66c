//! Cards: the name and the picture that somebody shows to others (`files-and-calls.md` 8).
