//! The recipes that are shipped: nothing is said of them, but that their daemon is not here.

use std::path::Path;

use super::*;
use crate::support::Systemd;

fn recipe(name: &str) -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.join("contrib").join(name)
}

/// They name `/usr/local/bin/daemon`, and a directory that exists where they are installed.
fn assert_good(name: &str, checked: &Checked) {
    let mut faults = checked.faults();
    assert!(
        faults.contains(&"error command".to_owned()),
        "{name}: {faults:?}"
    );
    faults.retain(|fault| fault != "error command");
    assert_eq!(faults, [""; 0], "{name}: {}", checked.told);
    assert_eq!(checked.told["error"], Value::Null, "{name}");
    assert_eq!(
        checked.told["file"].as_str().unwrap().rsplit('.').next(),
        Some("pid")
    );
}

#[test]
fn service_directories_as_shipped() {
    let site = Site::new();
    for name in ["runit", "daemontools", "s6"] {
        let check = Spawn::new(&site.scratch, support::program());
        let check = check
            .args(["check", "--json", "--service"])
            .arg(recipe(name));
        assert_good(name, &Checked::of(check.finish()));
    }
}

#[test]
fn units_as_shipped() {
    let site = Site::new();
    let mut systemd = Systemd::boot(&site.scratch);
    let shipped = ["app.service", "app@.service", "web.service", "web.socket"];
    let variables = site.scratch.join("blue.env");
    fs::write(&variables, "LISTEN=127.0.0.1:8080\n").unwrap();
    for name in shipped {
        let text = fs::read_to_string(recipe("systemd").join(name)).unwrap();
        // The one file that it needs beside itself.
        let text = text.replace("/etc/app/%i.env", variables.to_str().unwrap());
        systemd.write_unit(name, &text);
    }
    for name in ["app", "app@blue", "web"] {
        assert_good(name, &site.check(&systemd, &["--unit", name]));
    }
    systemd.shutdown();
}
