//! The option `keepalive`.

use std::time::Duration;

use anyhow::{Result, anyhow, bail};

use crate::cli;

/// tcp(7): what the kernel takes.
const MOST_SECONDS: u64 = 32767;
const MOST_PROBES: u32 = 127;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keepalive {
    Off,
    /// What is `None` is as the system has it.
    On {
        idle: Option<Duration>,
        interval: Option<Duration>,
        count: Option<u32>,
    },
}

impl Keepalive {
    /// `IDLE:INTERVAL:COUNT`, as nginx has it: each may be left out.
    pub(super) fn parse(value: Option<&str>) -> Result<Keepalive> {
        let text = match value {
            None | Some("on" | "1" | "yes" | "true") => ":",
            Some("off" | "0" | "no" | "false") => return Ok(Keepalive::Off),
            Some("") => {
                bail!("the option keepalive has no value; use on, off or IDLE:INTERVAL:COUNT")
            }
            Some(text) => text,
        };
        let time =
            |text: &str| {
                if text.is_empty() {
                    return Ok(None);
                }
                let whole = |time: &Duration| {
                    time.subsec_nanos() == 0 && (1..=MOST_SECONDS).contains(&time.as_secs())
                };
                let time = cli::time("keepalive", text)?.filter(whole);
                time.map(Some).ok_or_else(|| {
            anyhow!("keepalive: the time {text:?} is out of range; use 1 to {MOST_SECONDS} seconds")
        })
            };
        let parts: Vec<_> = text.split(':').collect();
        let (idle, interval, count) = match parts[..] {
            [idle] => (idle, "", ""),
            [idle, interval] => (idle, interval, ""),
            [idle, interval, count] => (idle, interval, count),
            _ => bail!("malformed keepalive {text:?}; use on, off or IDLE:INTERVAL:COUNT"),
        };
        let known = |count: &u32| (1..=MOST_PROBES).contains(count);
        let count = match count {
            "" => None,
            count => Some(count.parse().ok().filter(known).ok_or_else(|| {
                anyhow!("malformed keepalive count {count:?}; use a number from 1 to {MOST_PROBES}")
            })?),
        };
        Ok(Keepalive::On {
            idle: time(idle)?,
            interval: time(interval)?,
            count,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keepalive_has_times_and_a_count() {
        let on = |idle: Option<u64>, interval: Option<u64>, count| Keepalive::On {
            idle: idle.map(Duration::from_secs),
            interval: interval.map(Duration::from_secs),
            count,
        };
        for (text, keepalive) in [
            (None, on(None, None, None)),
            (Some("on"), on(None, None, None)),
            (Some("off"), Keepalive::Off),
            (Some("60"), on(Some(60), None, None)),
            (Some("1m:10s"), on(Some(60), Some(10), None)),
            (Some("1h:1m:5"), on(Some(3600), Some(60), Some(5))),
            (Some("30m::10"), on(Some(1800), None, Some(10))),
        ] {
            assert_eq!(Keepalive::parse(text).unwrap(), keepalive, "{text:?}");
        }
    }

    #[test]
    fn what_the_kernel_would_not_take_is_refused() {
        for (text, words) in [
            ("", "has no value"),
            ("0s", "out of range"),
            ("500ms", "out of range"),
            ("1d", "use 1 to 32767 seconds"),
            ("soon", "malformed time \"soon\""),
            ("1:2:3:4", "IDLE:INTERVAL:COUNT"),
            ("1:2:0", "malformed keepalive count \"0\""),
            ("1:2:128", "from 1 to 127"),
        ] {
            let error = Keepalive::parse(Some(text)).unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
