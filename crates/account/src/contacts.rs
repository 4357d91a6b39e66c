//! Contacts of an account and the requests to become one (`files-and-calls.md` 2).
