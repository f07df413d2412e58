//! What the client crate believes of its environment, which is its launcher's, or anybody's who starts it.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use super::client::environment::Launch;
use super::client::inherited::Announced;
use super::client::signals::can_be_caught;
use super::client::wire::Address;

const PARENT: i32 = 4240;
const OWN: u32 = 4242;

pub(super) fn environment(data: &[u8]) {
    let entries: Vec<&[u8]> = data.split(|byte| *byte == 0).collect();
    let find = |name: &str| {
        let mut values = entries
            .iter()
            .filter_map(|entry| entry.strip_prefix(name.as_bytes())?.strip_prefix(b"="));
        values
            .next()
            .map(|value| OsString::from(OsStr::from_bytes(value)))
    };
    match Launch::read(find, PARENT) {
        Ok(Some(launch)) => {
            assert!(launch.keeper > 0);
            assert!(launch.keeper == PARENT || launch.address.is_some());
            let signals = [launch.prepare.flatten(), launch.drain];
            assert!(signals.into_iter().flatten().all(can_be_caught));
            if let Some(address) = launch.address {
                let typed = find("NOTIFY_SOCKET").unwrap_or_default();
                assert!(typed.as_bytes().starts_with(b"/") || typed.as_bytes().starts_with(b"@"));
                assert!(typed.len() <= 108, "{address}");
            }
        }
        // Nobody takes part of it for a launcher.
        Ok(None) => {}
        Err(error) => super::assert_one_line(&error.to_string()),
    }
    match Announced::read(find, OWN) {
        Ok(announced) => {
            assert!(announced.count >= 0 && announced.count.checked_add(3).is_some());
            assert!(
                i32::try_from(announced.names.len()).is_ok_and(|names| names <= announced.count)
            );
            let meant = find("LISTEN_PID")
                .is_some_and(|pid| pid.to_str().and_then(|pid| pid.parse().ok()) == Some(OWN));
            assert!(meant || announced == Announced::default());
        }
        Err(error) => super::assert_one_line(&error.to_string()),
    }
    if let Some(address) = Address::parse(OsStr::from_bytes(data)) {
        assert!(data.len() <= 108, "{address}");
    }
}
