//! The command line as scripts and people rely on it: the real program against the real API, answered by the test.
//!
//! What needs a whole node is in `tests/e2e`. Here: usage, exit statuses, text and JSON of every command, and the
//! API's own manners towards whatever comes in over its socket.

mod answers;
mod api;
mod archive;
mod node;
mod past;
mod rules;
mod usage;
