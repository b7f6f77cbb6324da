//! Replication of one folder.
