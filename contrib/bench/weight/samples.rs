//! Many measurements of one thing.

use std::time::Duration;

/// In microseconds. Differences may be below nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Samples(Vec<f64>);

impl Samples {
    pub(crate) fn add(&mut self, microseconds: f64) {
        self.0.push(microseconds);
    }

    pub(crate) fn median(&self) -> Option<f64> {
        self.at(0.5)
    }

    /// Not the very least: that is luck.
    pub(crate) fn low(&self) -> Option<f64> {
        self.at(0.05)
    }

    pub(crate) fn high(&self) -> Option<f64> {
        self.at(0.95)
    }

    pub(crate) fn least(&self) -> Option<f64> {
        self.at(0.0)
    }

    fn at(&self, part: f64) -> Option<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len().checked_sub(1)?;
        let at = part * last as f64;
        let (below, above) = (at.floor() as usize, at.ceil() as usize);
        Some((sorted.get(below)? + sorted.get(above)?) / 2.0)
    }
}

pub(crate) fn microseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
