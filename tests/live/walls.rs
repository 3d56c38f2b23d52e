//! What a container tries against its node, the controller and its neighbours: refused or contained, each of it,
//! while a neighbour works on undisturbed.

use longshore_proto::v1::{Job, JobSpec, Security, Stream};
use longshore_tests::env::{Client, Cluster, docker, embedded, fresh_dir, image, image_with, outcome, shell};
use std::{fs, io::ErrorKind, net::TcpListener, sync::OnceLock};

/// Names of what is tried, each with one line of the shell that succeeds only where there is no wall.
const ESCAPES: [(&str, &str); 26] = [
    ("host_file", "cat $CANARY || cat /proc/1/root$CANARY || cat /proc/1/cwd/../../../..$CANARY"),
    ("host_file_beside_out", "cat /out/../../../../..$CANARY || ls /out/../journal"),
    ("host_processes", "[ \"$(cat /proc/1/comm)\" != docker-init ] && [ \"$(cat /proc/1/comm)\" != tini ]"),
    ("neighbours_process", "cat /proc/*/cmdline | tr '\\0' ' ' | grep -q 'sleep [9]8765'"),
    ("kill_the_agent", "kill -0 $AGENT"),
    ("docker_socket", "[ -S /var/run/docker.sock ] || [ -S /run/docker.sock ]"),
    ("sysrq", "echo h >/proc/sysrq-trigger"),
    (
        "core_pattern",
        "cat /proc/sys/kernel/core_pattern >/tmp/c && cat /tmp/c >/proc/sys/kernel/core_pattern",
    ),
    ("any_kernel_setting", "opens /proc/sys"),
    ("any_file_of_sys", "opens /sys"),
    (
        "own_limits",
        "cd /sys/fs/cgroup; f=$(ls memory.max memory/memory.limit_in_bytes 2>/dev/null); echo 1g >$f",
    ),
    ("kernel_memory", "[ -n \"$(head -c 1 /proc/kcore)\" ] || head -c 1 /dev/mem || head -c 1 /dev/kmem"),
    ("kernel_log", "dmesg || head -c 1 /dev/kmsg"),
    ("mount", "mount -t tmpfs none /mnt || mount -t proc none /mnt || mount --bind /etc /mnt"),
    ("mount_cgroups", "mount -t cgroup -o memory none /mnt || mount -t cgroup2 none /mnt"),
    ("remount_proc", "mount -o remount,rw /proc/sys || umount /proc/sys"),
    ("new_namespaces", "unshare -m true || unshare -U true || unshare -n true"),
    ("enter_namespaces", "nsenter -t 1 -m true || nsenter --net=/proc/1/ns/net true"),
    ("device_nodes", "mknod /tmp/disk b 8 0 || mknod /tmp/mem c 1 1"),
    ("disks", "ls /dev/sd* || ls /dev/vd* || ls /dev/nvme* || ls /dev/loop*"),
    ("kernel_module", "echo >/tmp/x.ko; insmod /tmp/x.ko"),
    ("clock", "! date -s \"$(date '+%Y-%m-%d %H:%M:%S')\" 2>&1 | grep 'not permitted'"),
    ("host_name", "hostname evil"),
    ("network_settings", "ip link set lo down || ip route add 10.9.8.0/24 dev lo"),
    ("raw_socket", "arping -c 1 -I eth0 $GATEWAY"),
    ("new_privileges", "! grep -q 'NoNewPrivs:.1' /proc/self/status"),
];
/// Addresses that must stay silent, for `nc`.
const SILENT: [&str; 6] = [
    "$GATEWAY $PORT",
    "$HOST $PORT",
    "$BRIDGE $PORT",
    "$GATEWAY $CONTROLLER",
    "169.254.169.254 80",
    "$NEIGHBOUR 7777",
];
/// Every file below a folder that looks writable is opened; writes nothing.
const OPENS: &str = "opens() { for f in $(find $1 -type f -perm -200 2>/dev/null | head -n 4000); do \
                     if true >>$f; then echo $f; return 0; fi; done 2>/dev/null; return 1; }\n";
const NEIGHBOUR: &str = "while :; do nc -l -p 7777 </dev/null >/dev/null; done & sleep 98765 &\n\
     echo at $(ip -4 addr show eth0 | sed -n 's/.*inet \\([0-9.]*\\).*/\\1/p') end\n\
     i=0; while [ $i -lt 60 ]; do sleep 0.5; i=$((i + 1)); echo $i >>/out/ticks; done; echo ticked $i; exit 0";

fn cluster() -> &'static Cluster {
    static SHARED: OnceLock<Cluster> = OnceLock::new();
    SHARED.get_or_init(|| embedded().agent("[logs]\ncap_bytes = 1048576\n").start())
}

fn script() -> String {
    let gateway = "GATEWAY=$(ip route | sed -n 's/default via \\([0-9.]*\\).*/\\1/p'); mkdir -p /mnt\n";
    let tries = ESCAPES.iter().map(|(name, line)| {
        format!("if ( {line} ) >/tmp/said 2>&1; then echo ESCAPED {name}: $(head -c 200 /tmp/said); else echo refused {name}; fi\n")
    });
    let silent = SILENT.iter().map(|to| {
        format!("if timeout 3 nc -w 2 {to} </dev/null; then echo ESCAPED {to}; else echo refused {to}; fi\n")
    });
    [OPENS.to_owned(), gateway.to_owned()].into_iter().chain(tries).chain(silent).collect()
}

/// A file on the host that no container may read.
fn canary() -> String {
    let path = fresh_dir("canary").join("secret");
    fs::write(&path, "the host's own").expect("write it");
    path.to_str().expect("test folders have plain names").to_owned()
}

async fn text(client: &Client, job: &Job) -> String {
    String::from_utf8_lossy(&client.printed(&job.id, Stream::Stdout).await).into_owned()
}

/// Where the neighbour is, once it listens.
async fn address(client: &Client, id: &str) -> String {
    client.prints(id, " end").await;
    let name = docker(&["ps", "-q", "--filter", &format!("name=longshore-{id}-")]);
    docker(&["inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", &name])
}

async fn escapes(security: Security) {
    let client = Client::connect(cluster()).await;
    // On every address of the host; nothing may arrive.
    let service = TcpListener::bind("0.0.0.0:0").expect("listen");
    service.set_nonblocking(true).expect("it can");
    let neighbour = client.submit(shell(&image(), NEIGHBOUR)).await;
    let mut spec = shell(&image(), &script());
    spec.security = security.into();
    let host = docker(&["network", "inspect", "bridge", "-f", "{{(index .IPAM.Config 0).Gateway}}"]);
    let port = service.local_addr().expect("it has one").port().to_string();
    for (name, value) in [
        ("CANARY", canary()),
        ("AGENT", cluster().agent_pid(0).to_string()),
        ("PORT", port),
        ("CONTROLLER", cluster().address().rsplit(':').next().unwrap_or_default().to_owned()),
        ("HOST", own_address()),
        ("BRIDGE", host),
        ("NEIGHBOUR", address(&client, &neighbour).await),
    ] {
        spec.env.insert(name.to_owned(), value);
    }
    let job = client.run(spec).await;
    let said = text(&client, &job).await;
    assert_eq!(outcome(&job), "succeeded", "{job:?}\n{said}");
    let escaped: Vec<_> = said.lines().filter(|line| line.starts_with("ESCAPED")).collect();
    assert!(escaped.is_empty(), "{escaped:#?}");
    assert_eq!(said.matches("refused ").count(), ESCAPES.len() + SILENT.len(), "{said}");
    let arrived = service.accept().expect_err("nobody called");
    assert_eq!(arrived.kind(), ErrorKind::WouldBlock);
    let neighbour = client.ended(&neighbour).await;
    assert_eq!(outcome(&neighbour), "succeeded", "{neighbour:?}");
    assert!(text(&client, &neighbour).await.contains("ticked 60"));
}

/// The address that the host would call the world from.
fn own_address() -> String {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").expect("bind");
    // Sends nothing: it only chooses a route. Without one, loopback is as good as any.
    match socket.connect("192.0.2.1:9") {
        Ok(()) => socket.local_addr().expect("it has one").ip().to_string(),
        Err(_) => "127.0.0.1".to_owned(),
    }
}

#[tokio::test]
async fn every_escape_is_refused_while_a_neighbour_works_on() {
    Box::pin(escapes(Security::Baseline)).await;
}

#[tokio::test]
async fn every_escape_is_refused_to_a_restricted_container() {
    Box::pin(escapes(Security::Restricted)).await;
}

#[tokio::test]
async fn bombs_are_contained_while_a_neighbour_works_on() {
    let client = Client::connect(cluster()).await;
    let neighbour = client.submit(shell(&image(), NEIGHBOUR)).await;
    client.prints(&neighbour, " end").await;
    let mut fork = shell(&image(), "f() { f | f & }; f 2>/dev/null; sleep 5; echo over");
    fork.resources.get_or_insert_default().pids = Some(64);
    let bombs = [
        // A shell that cannot fork for its own next command ends by that.
        ("fork", fork, "succeeded|exit_code"),
        ("memory", shell(&image(), "exec tail -c 200m /dev/zero >/dev/null"), "oom_killed"),
        (
            "shm",
            shell(&image(), "dd if=/dev/zero of=/dev/shm/x bs=1M; exec tail -c 200m /dev/zero >/dev/null"),
            "oom_killed",
        ),
        ("disk", shell(&image(), "dd if=/dev/zero of=/tmp_disk/x bs=1M count=2000; sleep 600"), "disk_limit"),
        ("log", shell(&image(), "yes | head -c 30m"), "succeeded"),
        ("files", shell(&image(), "ulimit -n 20; for i in $(seq 100); do : >/out/$i; done"), "succeeded"),
    ];
    let mut jobs = Vec::new();
    for (name, spec, expected) in bombs {
        jobs.push((name, client.submit(spec).await, expected));
    }
    for (name, id, expected) in jobs {
        let job = client.ended(&id).await;
        let ended = outcome(&job);
        assert!(expected.split('|').any(|expected| expected == ended), "{name}: {job:?}");
        if name == "log" {
            let kept = client.printed(&id, Stream::Stdout).await.len();
            assert!(kept <= 1 << 20, "{kept} bytes are kept");
        }
    }
    let neighbour = client.ended(&neighbour).await;
    assert_eq!(outcome(&neighbour), "succeeded", "{neighbour:?}");
    assert!(text(&client, &neighbour).await.contains("ticked 60"));
}

/// What the container sees of its capabilities.
async fn capabilities(client: &Client, spec: JobSpec) -> String {
    let job = client.run(spec).await;
    text(client, &job).await
}

#[tokio::test]
async fn a_restricted_container_has_no_capability_and_a_node_may_demand_it() {
    const SHOW: &str = "grep -E '^Cap(Prm|Eff|Bnd)' /proc/self/status";
    const NONE: &str = "CapPrm:\t0000000000000000\nCapEff:\t0000000000000000\nCapBnd:\t0000000000000000\n";
    let client = Client::connect(cluster()).await;
    let mut spec = shell(&image(), SHOW);
    assert_ne!(Box::pin(capabilities(&client, spec.clone())).await, NONE);
    spec.security = Security::Restricted.into();
    assert_eq!(Box::pin(capabilities(&client, spec)).await, NONE);

    let demanding = embedded().agent("[runtime]\nsecurity = \"restricted\"\n").start();
    let client = Client::connect(&demanding).await;
    let job = client.run(shell(&image(), SHOW)).await;
    assert_eq!(text(&client, &job).await, NONE);
    let told = client.printed(&job.id, Stream::System).await;
    assert!(String::from_utf8_lossy(&told).contains("this node runs every container restricted"));
}

#[tokio::test]
async fn an_image_outside_the_policy_is_refused_at_submit_and_on_the_node() {
    let mine = image();
    let policy = "allow = [\"longshore-test/*\"]\ndeny = [\"longshore-test/plain\"]\n";
    let cluster = embedded().controller(&format!("[jobs.images]\n{policy}")).start();
    let client = Client::connect(&cluster).await;
    for (image, says) in
        [(mine.as_str(), "denied by `longshore-test/plain`"), ("longshore-test-evil/x", "not among")]
    {
        let refusal = client.try_submit(shell(image, "true")).await.expect_err("it is refused");
        assert_eq!(refusal.code(), tonic::Code::InvalidArgument);
        let text = format!("{} {}", refusal.message(), String::from_utf8_lossy(refusal.details()));
        assert!(text.contains(says), "{text}");
    }
    let cluster = embedded().agent(&format!("[images.policy]\n{policy}")).start();
    let client = Client::connect(&cluster).await;
    let job = client.run(shell(&mine, "true")).await;
    assert_eq!((outcome(&job).as_str(), job.attempts), ("image_refused", 1), "{job:?}");
    assert_eq!(outcome(&client.run(shell(&image_with("allowed", ""), "true")).await), "succeeded");
}
