//! The client of the Kubernetes API server. What is asked of it belongs to the controllers.

use std::time::Duration;

use kube::client::ClientBuilder;
use kube::{Client, Config};
use tower::timeout::TimeoutLayer;

/// Time limit of the first words of an answer, with the client's own repetitions. The API server gives up a request after
/// 60 s by itself and answers a watch at once; only one that is cut off says nothing for longer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(75);

/// A client whose requests fail rather than wait for ever: a reconcile that waits keeps its object from all others.
///
/// # Errors
/// When the configuration is not usable, for example its certificates.
pub fn client(config: Config) -> Result<Client, kube::Error> {
    limited(config, ANSWER_TIMEOUT)
}

fn limited(config: Config, answer_timeout: Duration) -> Result<Client, kube::Error> {
    let builder = ClientBuilder::try_from(config)?;
    Ok(builder.with_layer(&TimeoutLayer::new(answer_timeout)).build())
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::Api;
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_server_that_never_answers_is_given_up() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let config = Config::new(format!("http://{address}").parse().unwrap());
        let client = limited(config, Duration::from_millis(200)).unwrap();
        let maps: Api<ConfigMap> = Api::namespaced(client, "default");
        let (error, connection) = tokio::join!(maps.get("orders"), listener.accept());
        let error = error.unwrap_err().to_string();
        assert!(error.contains("timed out"), "{error}");
        connection.unwrap();
    }
}
