//! The client of the Kubernetes API server. What is asked of it belongs to the controllers.

use std::time::Duration;

use http::Method;
use kube::client::{Body, ClientBuilder};
use kube::{Client, Config};
use tower::timeout::TimeoutLayer;

use crate::metrics::{Metrics, Request};

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

/// The same client, whose requests are counted.
#[must_use]
pub fn counted(client: Client, metrics: Metrics) -> Client {
    let namespace = client.default_namespace().to_owned();
    let service = tower::service_fn(move |request: http::Request<Body>| {
        let (client, metrics) = (client.clone(), metrics.clone());
        let mut counted = described(request.method(), request.uri());
        async move {
            let answer = client.send(request).await;
            if let Ok(answer) = &answer {
                counted.code = answer.status().as_u16().to_string();
            }
            metrics.requested(&counted);
            answer
        }
    });
    Client::new(service, namespace)
}

/// Verb and resource of a request, without any name.
fn described(method: &Method, uri: &http::Uri) -> Request {
    let parts: Vec<&str> = uri.path().split('/').filter(|part| !part.is_empty()).collect();
    // api/VERSION or apis/GROUP/VERSION, then namespaces/NAMESPACE unless the resource is all of the cluster's.
    let behind = if parts.first() == Some(&"api") { 2 } else { 3 };
    let mut path = parts.get(behind..).unwrap_or_default();
    if let ["namespaces", _, rest @ ..] = path
        && !rest.is_empty()
    {
        path = rest;
    }
    let (resource, is_one) = match path {
        [] => ("none".to_owned(), false),
        [resource] => ((*resource).to_owned(), false),
        [resource, _] => ((*resource).to_owned(), true),
        [resource, _, part, ..] => (format!("{resource}/{part}"), true),
    };
    let watches = uri.query().unwrap_or_default().split('&').any(|pair| pair == "watch=true");
    let verb = match *method {
        Method::GET if watches => "watch",
        Method::GET if is_one => "get",
        Method::GET => "list",
        Method::POST => "create",
        Method::PATCH => "patch",
        Method::PUT => "update",
        Method::DELETE => "delete",
        _ => "other",
    };
    Request { verb, resource, code: "none".to_owned() }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::Api;
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn requests_are_counted_without_any_name() {
        let group = "/apis/pinnace.dev/v1alpha1";
        for (method, path, verb, resource) in [
            (Method::GET, "/api/v1/namespaces/shop/pods".to_owned(), "list", "pods"),
            (Method::GET, "/api/v1/pods?labels=a&watch=true".to_owned(), "watch", "pods"),
            (Method::GET, "/api/v1/namespaces/shop".to_owned(), "get", "namespaces"),
            (Method::PATCH, format!("{group}/namespaces/a/topics/b"), "patch", "topics"),
            (
                Method::PATCH,
                format!("{group}/namespaces/a/topics/b/status"),
                "patch",
                "topics/status",
            ),
            (
                Method::POST,
                "/apis/events.k8s.io/v1/namespaces/a/events".to_owned(),
                "create",
                "events",
            ),
        ] {
            let found = described(&method, &path.parse().unwrap());
            assert_eq!((found.verb, found.resource.as_str()), (verb, resource), "{path}");
        }
    }

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
