//! Tries the agent's network out, from inside: two containers on the bridge, and sockets made in their network
//! namespaces. What must not be reached must stay silent, and what shows that the bridge works at all must answer.

use super::{
    engine::{Client, Engine, status},
    labels, pause,
};
use bollard::query_parameters::{
    CreateContainerOptions, CreateImageOptions, InspectContainerOptions, RemoveContainerOptions,
    RemoveImageOptions, StartContainerOptions,
};
use futures::StreamExt as _;
use longshore_common::ids::AgentId;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::{
    fs::File,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::fd::AsFd as _,
    time::Duration,
};

/// What is silent this long is closed. A packet on a bridge takes microseconds.
const SILENCE: Duration = Duration::from_millis(1500);
/// While it makes any network, the engine takes its jump to our rules out and puts it back: what was seen in that
/// instant is looked at again.
const AGAIN: Duration = Duration::from_secs(1);
const METADATA: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)), 80);

/// A container that sleeps on the bridge.
#[derive(Clone, Copy, Debug)]
struct Place {
    pid: i64,
    address: IpAddr,
    gateway: IpAddr,
}

/// Whether containers on `network` are kept apart from the host and from one another; if not, why not.
pub(super) async fn run(engine: &Engine, agent: AgentId, network: &str) -> Result<(), String> {
    let client = engine.client().await.map_err(|error| error.to_string())?;
    let image = format!("longshore-pause:{}", labels::tail(&agent.to_string()));
    let names = ["a", "b"].map(|end| format!("{network}-probe-{end}"));
    let result = async {
        import(&client, &image).await?;
        let first = place(&client, agent, &image, network, &names[0]).await?;
        let second = place(&client, agent, &image, network, &names[1]).await?;
        match look(first, second).await {
            Ok(()) => Ok(()),
            Err(_) => {
                tokio::time::sleep(AGAIN).await;
                look(first, second).await
            }
        }
    }
    .await;
    for name in &names {
        remove(&client, name).await;
    }
    if let Err(error) = client.api.remove_image(&image, None::<RemoveImageOptions>, None).await {
        tracing::debug!(%error, "probe image stays");
    }
    result
}

pub(super) async fn import(client: &Client, image: &str) -> Result<(), String> {
    let archive = pause::archive().ok_or("no probe is known for this processor")?;
    let (repo, tag) = image.split_once(':').ok_or("the probe's image has a tag")?;
    let options = CreateImageOptions {
        from_src: Some("-".to_owned()),
        repo: Some(repo.to_owned()),
        tag: Some(tag.to_owned()),
        ..Default::default()
    };
    let body = bollard::body_full(archive.into());
    let mut events = std::pin::pin!(client.api.create_image(Some(options), Some(body), None));
    while let Some(event) = events.next().await {
        event.map_err(|error| format!("import the probe's image: {error}"))?;
    }
    Ok(())
}

async fn place(
    client: &Client,
    agent: AgentId,
    image: &str,
    network: &str,
    name: &str,
) -> Result<Place, String> {
    remove(client, name).await;
    let body = pause::container(agent, image, network);
    let options = CreateContainerOptions { name: Some(name.to_owned()), ..Default::default() };
    let failed = |doing: &str, error: &bollard::errors::Error| format!("{doing} the probe: {error}");
    client.api.create_container(Some(options), body).await.map_err(|error| failed("create", &error))?;
    client
        .api
        .start_container(name, None::<StartContainerOptions>)
        .await
        .map_err(|error| failed("start", &error))?;
    let found = client
        .api
        .inspect_container(name, None::<InspectContainerOptions>)
        .await
        .map_err(|error| failed("look at", &error))?;
    let endpoint = found
        .network_settings
        .and_then(|settings| settings.networks)
        .and_then(|mut networks| networks.remove(network))
        .unwrap_or_default();
    let address = |text: Option<String>| text.and_then(|text| text.parse().ok());
    match (found.state.and_then(|state| state.pid), address(endpoint.ip_address), address(endpoint.gateway)) {
        (Some(pid @ 1..), Some(address), Some(gateway)) => Ok(Place { pid, address, gateway }),
        _ => Err("the probe ended, or has no address".to_owned()),
    }
}

async fn remove(client: &Client, name: &str) {
    let options = RemoveContainerOptions { force: true, v: true, link: false };
    match client.api.remove_container(name, Some(options)).await {
        Err(error) if status(&error) != Some(404) => tracing::debug!(%error, "probe stays"),
        _ => {}
    }
}

async fn look(first: Place, second: Place) -> Result<(), String> {
    let inside = within(first.pid, || TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))).await?;
    let outside = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).map_err(|error| error.to_string())?;
    let port = |listener: &TcpListener| listener.local_addr().map(|at| at.port()).map_err(|e| e.to_string());
    let container = SocketAddr::new(first.address, port(&inside)?);
    let host = SocketAddr::new(first.gateway, port(&outside)?);
    let (control, to_host, to_container, to_metadata) = tokio::join!(
        here(move || reaches(container)),
        within(first.pid, move || Ok(reaches(host))),
        within(second.pid, move || Ok(reaches(container))),
        within(first.pid, || Ok(reaches(METADATA))),
    );
    if !control? {
        return Err(format!("the host does not reach a container at {container}: the bridge does not work"));
    }
    let breaches = [
        (to_host?, "a container reaches services of its host"),
        (to_container?, "containers reach one another (is br_netfilter loaded?)"),
        (to_metadata?, "a container reaches the metadata service at 169.254.169.254"),
    ];
    match breaches.iter().find(|(reached, _)| *reached) {
        Some((_, breach)) => Err((*breach).to_owned()),
        None => Ok(()),
    }
}

fn reaches(address: SocketAddr) -> bool {
    TcpStream::connect_timeout(&address, SILENCE).is_ok()
}

/// Runs `work` in the network namespace of a process, on a thread that ends with it: a pooled one would keep the
/// namespace.
async fn within<T: Send + 'static>(
    pid: i64,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, String> {
    thread(move || {
        let namespace = File::open(format!("/proc/{pid}/ns/net"))?;
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
        work()
    })
    .await
    .map_err(|error| {
        format!("enter the probe's network (root and the host's process ids are needed): {error}")
    })
}

async fn here<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
    thread(move || Ok(work())).await.map_err(|error| error.to_string())
}

async fn thread<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    std::thread::Builder::new().name("network-probe".to_owned()).spawn(move || {
        // Nobody may wait any more.
        drop(sender.send(work()));
    })?;
    receiver.await.unwrap_or_else(|_| Err(io::Error::other("the probe's thread ended early")))
}
