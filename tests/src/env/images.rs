//! Images of the tests: a static busybox FROM scratch, marked so that they, and containers of them, are found and
//! removed at the end.

use super::{docker, fresh_dir, program, run_id};
use std::{
    collections::HashMap,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, OnceLock},
};

/// The plain test image: busybox with a shell, running as root.
pub fn image() -> String {
    image_with("plain", "")
}

/// A test image with more lines in its Dockerfile. `name` names the lines: the same name is the same image.
pub fn image_with(name: &str, lines: &str) -> String {
    static BUILT: OnceLock<Mutex<HashMap<String, String>>> = OnceLock::new();
    let mut built =
        BUILT.get_or_init(Mutex::default).lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    built.entry(name.to_owned()).or_insert_with(|| build(name, lines)).clone()
}

fn build(name: &str, lines: &str) -> String {
    let context = fresh_dir("image");
    fill(&context.join("root"));
    // The run's id in the file keeps images of two runs apart even where their contents are the same.
    let run = run_id();
    let file = format!("FROM scratch\nCOPY root/ /\nENV PATH=/bin\nLABEL longshore.test={run}\n{lines}\n");
    fs::write(context.join("Dockerfile"), file).expect("write a Dockerfile");
    let tag = format!("longshore-test/{name}:{run}");
    docker(&["build", "-q", "-t", &tag, context.to_str().expect("test folders have plain names")]);
    tag
}

fn fill(root: &Path) {
    let bin = root.join("bin");
    for folder in ["bin", "etc", "tmp"] {
        fs::create_dir_all(root.join(folder)).expect("make the image's folders");
    }
    fs::write(root.join("etc/passwd"), "root:x:0:0::/:/bin/sh\nuser:x:1000:1000::/:/bin/sh\n")
        .expect("write passwd");
    let busybox = busybox();
    fs::copy(&busybox, bin.join("busybox")).expect("copy busybox");
    let applets = Command::new(&busybox).arg("--list").output().expect("list busybox' applets");
    for applet in String::from_utf8_lossy(&applets.stdout).lines().filter(|applet| *applet != "busybox") {
        symlink("busybox", bin.join(applet)).expect("link an applet");
    }
}

fn busybox() -> PathBuf {
    std::env::var_os("BUSYBOX").map_or_else(|| program(&["busybox"], "busybox-static"), PathBuf::from)
}
