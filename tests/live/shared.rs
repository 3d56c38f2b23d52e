//! The two clusters most stories run on: one without any server, one with RabbitMQ and S3. A story that stops,
//! fills or kills something starts its own.

use longshore_tests::env::{Cluster, embedded as plan, on_servers};
use std::sync::OnceLock;

pub(crate) fn embedded() -> &'static Cluster {
    static SHARED: OnceLock<Cluster> = OnceLock::new();
    SHARED.get_or_init(|| plan().start())
}

pub(crate) fn servers() -> &'static Cluster {
    static SHARED: OnceLock<Cluster> = OnceLock::new();
    SHARED.get_or_init(|| on_servers().start())
}

/// Makes two tests of each story: `embedded::name` and `servers::name`.
macro_rules! on_both {
    ($($story:ident)+) => {
        mod embedded {
            $(#[tokio::test]
            async fn $story() {
                super::$story($crate::shared::embedded()).await;
            })+
        }
        mod servers {
            $(#[tokio::test]
            async fn $story() {
                super::$story($crate::shared::servers()).await;
            })+
        }
    };
}
