//! `--time-scale`: lets time pass faster for a whole process, to try a sequence in a minute.
//!
//! Not responsible for the clock itself (`clock`).

use clap::Args;

/// The option, for commands that live in time.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct TimeScale {
    /// Let time pass N times faster: 3600 makes an hour a second
    #[arg(long, value_name = "N", default_value_t = 1.0, value_parser = parse)]
    pub(crate) time_scale: f64,
}

fn parse(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(scale) if (1.0..=1_000_000.0).contains(&scale) => Ok(scale),
        _ => Err("a number from 1 to 1000000".into()),
    }
}
