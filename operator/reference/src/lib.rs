//! The pages of `docs/reference`, made of what the code itself says: metrics, resources, command lines, configuration.
//!
//! Pure. `tests/pages.rs` compares them with what lies there, and writes them anew.

mod commands;
mod configuration;
mod metrics;
mod resources;
mod table;

/// File name and text of every page.
#[must_use]
pub fn pages() -> Vec<(&'static str, String)> {
    vec![
        ("commands.md", commands::page()),
        ("configuration.md", configuration::page()),
        ("metrics.md", metrics::page()),
        ("resources.md", resources::page()),
    ]
}
