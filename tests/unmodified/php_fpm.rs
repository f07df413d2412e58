//! php-fpm, behind an nginx that stays.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::scene::{Recipe, Scene, WEB};
use crate::load::SlowSpec;
use crate::support::machine::{Machine, with_machine};

const PHP_FPM: Recipe = Recipe {
    name: "php-fpm",
    files: &[
        ("pool.conf", "/etc/php/pool.conf"),
        ("index.php", "/var/www/html/index.php"),
    ],
    configuration: "/etc/php/pool.conf",
    writes_to: &["/var/www", "/var/lib/nginx", "/var/log/nginx"],
    target: WEB,
    slow: SlowSpec {
        clients: 2,
        delay: Duration::from_secs(2),
    },
    per_second: 300,
};
/// nginx as a web server for it, and nothing else.
const FRONT: &str = "
    daemon off;
    user www-data;
    pid /var/lib/nginx/front.pid;
    error_log stderr warn;
    events {}
    http {
        access_log off;
        server {
            listen 80;
            location / {
                include /etc/nginx/fastcgi_params;
                fastcgi_param SCRIPT_FILENAME /var/www/html/index.php;
                fastcgi_pass unix:/run/php/app.sock;
            }
        }
    }
";

fn scene<'a>(machine: &'a Machine<'a>) -> Scene<'a> {
    let mut scene = Scene::new(machine, &PHP_FPM);
    machine.write("/etc/nginx/front.conf", FRONT, 0o644);
    let nginx = machine.command(&["nginx", "-c", "/etc/nginx/front.conf"], "nginx");
    scene.start_beside(nginx);
    scene.start();
    scene
}

#[test]
fn restarts_lose_nothing() {
    with_machine(|machine| {
        let scene = scene(machine);
        scene.loses_nothing();
        // Its own way to inherit a socket was used each time.
        let inherited = scene
            .log()
            .count("using inherited socket fd=3, \"/nonexistent/app.sock\"");
        assert_eq!(inherited, 21);
        scene.stops();
    });
}

/// `php-fpm -t` says what is wrong, before anything is started.
#[test]
fn a_broken_configuration_is_not_started() {
    with_machine(|machine| {
        let scene = scene(machine);
        let broken = |text: &str| text.replace("pm = dynamic", "pm = dynamci");
        scene.survives(broken, "invalid process manager");
        scene.stops();
    });
}

/// The trap: at its end php-fpm removes the path of its socket. With that of the held one as its `listen`, an old
/// generation that has drained cuts off its successor.
#[test]
fn a_listen_that_names_the_held_socket_is_removed_by_the_old_one() {
    with_machine(|machine| {
        let scene = scene(machine);
        let held = Path::new("/run/php/app.sock");
        assert!(held.exists());
        for file in ["/etc/sv/php-fpm/run", "/etc/php/pool.conf"] {
            let text = fs::read_to_string(file).unwrap();
            let named = text.replace("/nonexistent/app.sock", "/run/php/app.sock");
            fs::write(file, named).unwrap();
        }
        scene.sv("restart");
        scene.wait_ready(2);
        scene.wait_gone(1);
        assert!(held.exists(), "the first one did not know the path");
        scene.sv("restart");
        scene.wait_ready(3);
        scene.wait_gone(2);
        assert!(!held.exists(), "the trap has gone");
    });
}
