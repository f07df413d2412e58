//! `docs/restart.svg` is drawn by a program, which shall still do so.

use std::path::Path;

use crate::support::{self, Scratch, Spawn};

#[test]
fn a_restart_is_drawn() {
    let scratch = Scratch::new();
    let file = scratch.join("restart.svg");
    // Everything is built; under cargo it would build it again.
    Spawn::new(&scratch, support::example("picture"))
        .env_remove("CARGO")
        .env("TMPDIR", scratch.path())
        .args(["--short", "--rate", "400"])
        .arg(&file)
        .finish()
        .expect_success();
    let svg = std::fs::read_to_string(&file).expect("it was drawn");
    assert!(svg.contains("<text class=\"good\" "), "{svg}");
    assert!(svg.len() < 40_000, "{}", svg.len());
    // Whoever reads the words hears of it, too.
    let script = "import sys, xml.dom.minidom as xml\n\
        svg = xml.parse(sys.argv[1]).documentElement\n\
        texts = [text.firstChild.data for text in svg.getElementsByTagName('text')]\n\
        for wanted in ['sv restart', 'it is ready', 'serves', 'drains', 'crashes', 'gen. 1']:\n\
        \x20   assert wanted in texts, (wanted, texts)\n\
        assert svg.getElementsByTagName('title') and svg.getElementsByTagName('desc')\n\
        assert not svg.getElementsByTagName('image')";
    let stored = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/restart.svg");
    for picture in [file, stored] {
        Spawn::new(&scratch, support::tool("python3", "python3"))
            .args(["-c", script])
            .arg(picture)
            .finish()
            .expect_success();
    }
    scratch.wait_only(&[]);
}
