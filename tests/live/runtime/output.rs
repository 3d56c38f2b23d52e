//! Not a byte of a container's output is lost.

use super::{Node, read};
use futures::{StreamExt as _, stream};
use longshore_agent::runtime::Runtime as _;

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_containers_that_end_at_once_lose_nothing() {
    let node = Node::new();
    let node = &node;
    let runs = stream::iter(0..500).map(|number| async move {
        let line = format!("unterminated {number}");
        let ran = node.run(&node.shell(&format!("printf '{line}'; printf 'e{number}' >&2; exit 3"))).await;
        assert_eq!(String::from_utf8_lossy(&ran.stdout), line);
        assert_eq!(String::from_utf8_lossy(&ran.stderr), format!("e{number}"));
        assert_eq!(ran.exit.code, 3);
    });
    runs.buffer_unordered(8).collect::<()>().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_mebibytes_come_as_they_were_written() {
    let node = Node::new();
    // Binary, with lines of every length, checked by the container's own digest of it.
    let script = "head -c 47185920 /dev/urandom >/tmp_disk/a; base64 /tmp_disk/a >/tmp_disk/b; \
                  head -c 4194304 /tmp_disk/a >>/tmp_disk/b; \
                  tr -d '\\n' </tmp_disk/b | head -c 300000 >>/tmp_disk/b; \
                  cat /tmp_disk/b; sha256sum </tmp_disk/b >/out/sum";
    let spec = node.shell(script);
    let id = node.docker.create(&spec).await.expect("create");
    let output = node.docker.start(&id).await.expect("start");
    let (stdout, stderr) = read(output).await;
    assert_eq!(node.docker.wait(&id).await.expect("wait").code, 0, "{}", String::from_utf8_lossy(&stderr));
    assert!(stdout.len() > 60 << 20, "{}", stdout.len());
    let file = spec.scratch.tmp.join("b");
    assert!(std::fs::read(file).expect("the file is there") == stdout, "bytes differ");
    node.docker.remove(&id).await.expect("remove");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_agent_process_reads_everything_again_from_the_engines_log() {
    let node = Node::new();
    let script = "echo one; head -c 50000 /dev/zero | tr '\\0' x; echo; echo err >&2; printf '\\n\\ntwo\\n'; \
                  head -c 16384 /dev/zero | tr '\\0' y; echo; echo ready; \
                  trap 'printf last; exit 4' TERM; while :; do sleep 0.05; done";
    let expected = format!("one\n{}\n\n\ntwo\n{}\nready\nlast", "x".repeat(50_000), "y".repeat(16_384));
    let spec = node.shell(script);
    let id = node.docker.create(&spec).await.expect("create");
    let mut first = node.docker.start(&id).await.expect("start");
    let mut seen = Vec::new();
    while !seen.ends_with(b"ready\n") {
        seen.extend_from_slice(&first.0.recv().await.expect("it goes on").data);
    }
    let second = node.restarted();
    assert_eq!(second.create(&spec).await.expect("adopted"), id);
    let output = second.start(&id).await.expect("taken up");
    let (output, stopped) = tokio::join!(read(output), second.stop(&id, std::time::Duration::from_secs(20)));
    stopped.expect("stop");
    assert_eq!(second.wait(&id).await.expect("wait").code, 4);
    let stdout = String::from_utf8(output.0).expect("text");
    // The engine's driver ends every line, the last one too.
    assert!(stdout.trim_end_matches('\n') == expected, "{} bytes of {}", stdout.len(), expected.len());
    assert_eq!(output.1, b"err\n");
    second.remove(&id).await.expect("remove");
    assert!(!spec.scratch.out.exists(), "its labels name the folders");
}
