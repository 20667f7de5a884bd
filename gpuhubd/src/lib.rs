//! The gpuhub broker: all network, all secrets, all decisions. ARCHITECTURE.md has the plan.

pub mod audit;
pub mod config;
pub mod dialog;
pub mod doctor;
pub mod engine;
pub mod finding;
pub mod idmap;
pub mod machine;
pub mod model;
pub mod privileges;
pub mod provider;
pub mod publish;
pub mod registry;
pub mod seal;
pub mod server;
pub mod store;
pub mod tls;
