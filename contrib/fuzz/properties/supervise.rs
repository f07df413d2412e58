//! The status files of runit, daemontools and s6. Root writes them.

use crate::generation::Wish;
use crate::supervisor::Format;

const FORMATS: [Format; 3] = [Format::Runit, Format::Daemontools, Format::S6];

pub(super) fn supervise(data: &[u8]) {
    for format in FORMATS {
        let wish = format.read(data);
        let process = format.main_process(data);
        for (at, byte) in data.iter().enumerate() {
            let counts = match format {
                Format::Runit | Format::Daemontools => at == 17,
                Format::S6 => at + 1 == data.len(),
            };
            let of_process = match format {
                Format::Runit | Format::Daemontools => (12..16).contains(&at),
                Format::S6 => (24..32).contains(&at),
            };
            // All of a short one, and some of a long one.
            if at > 64 && at + 1 != data.len() {
                continue;
            }
            let mut other = data.to_vec();
            other[at] = !byte;
            if !counts {
                assert_eq!(format.read(&other), wish, "byte {at}");
            }
            if !of_process {
                assert_eq!(format.main_process(&other), process, "byte {at}");
            }
        }
        short(format, data, wish);
    }
}

/// Of half a file nothing is believed.
fn short(format: Format, data: &[u8], wish: Wish) {
    let least = match format {
        Format::Runit | Format::Daemontools => 18,
        Format::S6 => 35,
    };
    if data.len() < least {
        assert_eq!(wish, Wish::Unknown);
    } else if format == Format::S6 {
        assert_ne!(wish, Wish::Unknown);
    }
}
