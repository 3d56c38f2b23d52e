//! Ends that are not the program's own, and starts that are none.

use super::Node;
use longshore_agent::runtime::{ContainerSpec, Error, ImageId, Runtime as _};
use longshore_common::job::Outcome;
use longshore_tests::env::image_with;
use std::{os::unix::fs::PermissionsExt as _, time::Duration};

/// How an attempt with this command ended before its program ran.
async fn refused(node: &Node, command: &[&str], change: impl FnOnce(&mut ContainerSpec)) -> Outcome {
    refusal(node, command, change).await.0
}

async fn refusal(
    node: &Node,
    command: &[&str],
    change: impl FnOnce(&mut ContainerSpec),
) -> (Outcome, String) {
    let mut spec = node.spec();
    spec.command = Some(command.iter().map(|&word| word.to_owned()).collect());
    change(&mut spec);
    let end = match node.docker.create(&spec).await {
        Ok(id) => {
            let end = match node.docker.start(&id).await {
                Ok(_output) => node.docker.wait(&id).await.map(|exit| exit.code),
                Err(error) => Err(error),
            };
            node.docker.remove(&id).await.expect("remove");
            end
        }
        Err(error) => Err(error),
    };
    match end {
        Err(Error::Ends { outcome, detail }) => (outcome, detail),
        other => panic!("a refusal expected: {other:?}"),
    }
}

#[tokio::test]
async fn a_program_that_cannot_run_is_told_from_one_that_fails() {
    let node = Node::new();
    assert_eq!(refused(&node, &["no-such-program"], |_| ()).await, Outcome::EntrypointNotFound);
    assert_eq!(refused(&node, &["/etc/passwd"], |_| ()).await, Outcome::EntrypointNotExecutable);
    let ran = node.run(&node.shell("no-such-program")).await;
    assert_eq!(ran.exit.code, 127, "the shell's own code is the job's");
}

#[tokio::test]
async fn an_unknown_user_is_the_jobs_mistake() {
    let outcome = refused(&Node::new(), &["true"], |spec| spec.user = Some("nobody-here".to_owned())).await;
    assert_eq!(outcome, Outcome::InvalidContract);
}

#[tokio::test]
async fn a_working_directory_that_is_a_file_is_the_jobs_mistake() {
    let node = Node::new();
    for (folder, shown) in
        [("/bin/sh", "/bin/sh is not a folder"), ("/bin/sh/x", "busybox/x: not a directory")]
    {
        let (outcome, detail) =
            refusal(&node, &["true"], |spec| spec.workdir = Some(folder.to_owned())).await;
        assert_eq!(outcome, Outcome::InvalidContract, "{detail}");
        let begin = "the working directory cannot be entered: ";
        assert!(detail.starts_with(begin) && detail.contains(shown), "{detail}");
    }
}

#[tokio::test]
async fn a_user_out_of_range_in_the_image_is_the_images_mistake() {
    let image = image_with("user-out-of-range", "USER 4294967295");
    let (outcome, detail) = refusal(&Node::new(), &["true"], |spec| spec.image = ImageId(image)).await;
    assert_eq!(outcome, Outcome::InvalidContract, "{detail}");
    assert!(detail.contains("0-2147483647"), "{detail}");
}

#[tokio::test]
async fn an_environment_that_the_kernel_does_not_take_is_no_exit_code() {
    let big = |spec: &mut ContainerSpec| drop(spec.env.insert("BIG".to_owned(), "x".repeat(128 << 10)));
    let (outcome, detail) = refusal(&Node::new(), &["true"], big).await;
    assert_eq!(outcome, Outcome::InvalidContract, "{detail}");
    assert!(detail.contains("larger than the kernel takes"), "{detail}");
    let ran = Node::new().run(&Node::new().shell("echo mine >&2; exit 1")).await;
    assert_eq!(ran.exit.code, 1, "a program's own 1 stays one");
}

#[tokio::test]
async fn gpus_on_an_engine_without_them_end_with_a_hint() {
    let node = Node::new();
    let mut spec = node.shell("true");
    spec.gpus = vec!["GPU-00000000-0000-0000-0000-000000000000".to_owned()];
    let id = node.docker.create(&spec).await.expect("create");
    let error = node.docker.start(&id).await.expect_err("there is no driver");
    node.docker.remove(&id).await.expect("remove");
    assert!(error.to_string().contains("toolkit"), "{error}");
}

#[tokio::test]
async fn a_killed_child_leaves_the_flag_and_the_main_programs_code() {
    let node = Node::new();
    let ran = node.run(&node.shell("tail /dev/zero; echo child $?; exit 0")).await;
    assert_eq!((ran.exit.code, ran.exit.oom_flag), (0, true), "{}", String::from_utf8_lossy(&ran.stdout));
}

#[tokio::test]
async fn a_user_of_the_image_can_write_files_nobody_else_reads() {
    let node = Node::new();
    let mut spec = node.shell("umask 077; id -u >/out/a; echo x >/tmp_disk/b; ls -l /out/a");
    spec.user = Some("1000".to_owned());
    let id = node.docker.create(&spec).await.expect("create");
    let _output = node.docker.start(&id).await.expect("start");
    assert_eq!(node.docker.wait(&id).await.expect("wait").code, 0);
    let file = spec.scratch.out.join("a");
    let mode = std::fs::metadata(&file).expect("there").permissions().mode() & 0o777;
    assert_eq!((mode, std::fs::read_to_string(file).expect("root reads it")), (0o600, "1000\n".to_owned()));
    let parent = spec.scratch.out.parent().expect("has one").metadata().expect("there");
    assert_eq!(parent.permissions().mode() & 0o777, 0o700, "no user of the host gets in");
    node.docker.remove(&id).await.expect("remove");
}

#[tokio::test]
async fn inputs_are_there_and_cannot_be_written() {
    let node = Node::new();
    let mut spec = node.shell("cat /in/scans/a; echo no >/in/scans/b || echo refused");
    let folder = spec.scratch.out.parent().expect("has one").join("in/scans");
    std::fs::create_dir_all(&folder).expect("made");
    std::fs::write(folder.join("a"), "data ").expect("written");
    spec.scratch.inputs.insert("scans".to_owned(), folder);
    assert_eq!(String::from_utf8_lossy(&node.run(&spec).await.stdout), "data refused\n");
}

#[tokio::test]
async fn use_is_measured_while_it_runs() {
    let node = Node::new();
    let script =
        "head -c 5000000 /dev/zero >/tmp_disk/a; head -c 3000000 /dev/zero >/b; echo ready; sleep 60";
    let id = node.docker.create(&node.shell(script)).await.expect("create");
    let mut output = node.docker.start(&id).await.expect("start");
    output.0.recv().await.expect("ready");
    let sample = node.docker.usage(&id).await.expect("usage");
    assert!((8_000_000..10_000_000).contains(&sample.disk_bytes), "{sample:?}");
    assert!(sample.usage.memory_peak_bytes > 100_000 && sample.usage.cpu_micros > 0, "{sample:?}");
    node.docker.stop(&id, Duration::ZERO).await.expect("stop");
    node.docker.remove(&id).await.expect("remove");
}

#[tokio::test]
async fn limits_are_those_that_were_asked_for() {
    let node = Node::new();
    let mut spec = node.shell(
        "cat /sys/fs/cgroup/memory/memory.memsw.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null | head -1; \
         ulimit -n; ulimit -c; df -k /dev/shm | tail -1 | tr -s ' ' | cut -d' ' -f2; \
         grep -E 'NoNewPrivs|CapEff' /proc/self/status; echo $NVIDIA_VISIBLE_DEVICES",
    );
    spec.resources.shm_bytes = 32 << 20;
    let ran = node.run(&spec).await;
    let text = String::from_utf8_lossy(&ran.stdout).replace('\t', " ");
    let lines: Vec<_> = text.lines().collect();
    // Docker's default less NET_RAW (13), MKNOD (27) and AUDIT_WRITE (29).
    let most = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum.unwrap_or(u64::MAX);
    let files = most.min(1_048_576).to_string();
    let rest = [files.as_str(), "0", "32768", "CapEff: 00000000800405fb", "NoNewPrivs: 1", "void"];
    assert_eq!(lines[lines.len() - rest.len()..], rest, "{text}");
}

#[tokio::test]
async fn an_image_that_went_before_its_container_is_told_from_a_refusal() {
    let node = Node::new();
    let mut spec = node.spec();
    spec.image = ImageId(format!("sha256:{}", "0".repeat(64)));
    match node.docker.create(&spec).await {
        Err(Error::ImageGone(detail)) => assert!(detail.contains("vanished"), "{detail}"),
        other => panic!("it is not there: {other:?}"),
    }
}
