//! HTTP, health, reflection, agents and status.

use crate::harness::{Agent, Cluster, admin_text, http, spec};
use longshore_proto::v1;

#[tokio::test]
async fn http_and_grpc_share_the_port() {
    let cluster = Cluster::start().await;
    cluster.submit(spec("x")).await;
    let get = async |path: &str| {
        let url = format!("{}{path}", cluster.running.base_url);
        let token = admin_text(cluster.folder.path());
        let answer = http().get(url).bearer_auth(token).send().await.expect("sent");
        (answer.status().as_u16(), answer.text().await.expect("read"))
    };
    assert_eq!(get("/healthz").await, (200, "ok\n".to_owned()));
    let (status, ready) = get("/readyz").await;
    assert!(status == 200 && ready.contains("ok database"), "{ready}");
    let (status, metrics) = get("/metrics").await;
    assert_eq!(status, 200);
    for line in ["longshore_jobs{state=\"queued\"} 1", "longshore_jobs_submitted_total 1"] {
        assert!(metrics.lines().any(|found| found == line), "{line} in {metrics}");
    }
    assert_eq!(get("/nothing").await.0, 404);
    assert_eq!(get("/blobs/cas/00?op=get&expires=9999999999&sig=00").await.0, 403);
}

#[tokio::test]
async fn health_is_serving_and_an_unknown_method_is_told() {
    let cluster = Cluster::start().await;
    let mut grpc = tonic::client::Grpc::new(cluster.channel.clone());
    grpc.ready().await.expect("connected");
    let codec = tonic_prost::ProstCodec::<v1::StatusRequest, v1::StatusResponse>::default();
    let path = "/longshore.v1.Jobs/Nonsense".parse().expect("a path");
    let answer = grpc.unary(tonic::Request::new(v1::StatusRequest {}), path, codec).await;
    assert_eq!(answer.expect_err("no such method").code(), tonic::Code::Unimplemented);
    let mut health = tonic_health::pb::health_client::HealthClient::new(cluster.channel.clone());
    let request = tonic_health::pb::HealthCheckRequest { service: "longshore.v1.Jobs".to_owned() };
    let answer = health.check(request).await.expect("answered").into_inner();
    assert_eq!(answer.status, tonic_health::pb::health_check_response::ServingStatus::Serving as i32);
}

#[tokio::test]
async fn reflection_lists_the_services() {
    use tonic_reflection::pb::v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    };
    let cluster = Cluster::start().await;
    let list = MessageRequest::ListServices(String::new());
    let request = ServerReflectionRequest { host: String::new(), message_request: Some(list) };
    let mut client = ServerReflectionClient::new(cluster.channel.clone());
    let answer = client.server_reflection_info(tokio_stream::iter([request])).await.expect("answered");
    let message = answer.into_inner().message().await.expect("read").expect("a message");
    let Some(MessageResponse::ListServicesResponse(list)) = message.message_response else {
        panic!("no list: {message:?}")
    };
    let names: Vec<_> = list.service.iter().map(|service| service.name.as_str()).collect();
    for service in ["Jobs", "Agents", "AgentLink", "Cluster"] {
        assert!(names.contains(&format!("longshore.v1.{service}").as_str()), "{names:?}");
    }
}

#[tokio::test]
async fn agents_and_status_show_who_is_there() {
    let cluster = Cluster::start().await;
    let agent = Agent::connect(&cluster, "gpu-07").await;
    let mut agents = v1::agents_client::AgentsClient::new(cluster.channel.clone());
    let list = agents.list(v1::ListAgentsRequest::default()).await.expect("listed").into_inner();
    assert_eq!(list.agents.len(), 1);
    let request = v1::GetAgentRequest { agent: "gpu-07".to_owned() };
    let found = agents.get(request).await.expect("there").into_inner().agent.expect("an agent");
    assert_eq!((found.id, found.state), (agent.id.to_string(), v1::AgentState::Online as i32));
    let unknown = agents.get(v1::GetAgentRequest { agent: "nobody".to_owned() }).await.expect_err("none");
    assert_eq!(unknown.code(), tonic::Code::NotFound);

    let mut status = v1::cluster_client::ClusterClient::new(cluster.channel.clone());
    let answer = status.status(v1::StatusRequest {}).await.expect("answered").into_inner();
    assert_eq!(answer.agents_online, 1);
    let names: Vec<_> = answer.parts.iter().map(|part| part.name.as_str()).collect();
    assert_eq!(names, ["database", "queue", "store", "disk"]);
    assert!(answer.parts.iter().all(|part| part.healthy), "{:?}", answer.parts);
}
