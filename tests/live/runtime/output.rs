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
