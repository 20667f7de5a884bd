//! The gpuhub broker: all network, all secrets, all decisions. ARCHITECTURE.md has the plan.

pub mod config;
pub mod dialog;
pub mod doctor;
pub mod finding;
pub mod model;
pub mod provider;
pub mod tls;
