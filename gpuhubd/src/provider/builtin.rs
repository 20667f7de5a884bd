//! The builtin directory (being written).
