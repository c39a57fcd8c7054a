//! The domain of the Kubernetes cluster, which nothing but DNS settings tells: pods search in it. Names in certificates
//! end with it.

/// Where a pod finds what it searches in.
const RESOLVER_FILE: &str = "/etc/resolv.conf";
/// The domain of nearly every cluster.
const DEFAULT: &str = "cluster.local";

/// The domain that was asked for, else the one of this pod, else `cluster.local`.
#[must_use]
pub fn find(asked: Option<&str>) -> String {
    let asked = asked.filter(|domain| !domain.is_empty()).map(str::to_owned);
    let own = || searched(&std::fs::read_to_string(RESOLVER_FILE).ok()?);
    asked.or_else(own).unwrap_or_else(|| DEFAULT.to_owned())
}

/// The domain in resolver settings: that of which `svc` is searched.
fn searched(settings: &str) -> Option<String> {
    let lines = settings.lines().filter_map(|line| line.trim().strip_prefix("search"));
    let domains = lines.flat_map(str::split_whitespace);
    let mut of_services = domains.filter_map(|domain| domain.strip_prefix("svc."));
    let domain = of_services.next()?.trim_end_matches('.').to_ascii_lowercase();
    (!domain.is_empty()).then_some(domain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_domain_is_the_one_that_pods_search_services_in() {
        let settings = "nameserver 10.96.0.10\nsearch shop.svc.k8s.example svc.k8s.example k8s.example\noptions ndots:5\n";
        assert_eq!(searched(settings).as_deref(), Some("k8s.example"));
        assert_eq!(searched("search example.com\nnameserver 192.0.2.1\n"), None);
        assert_eq!(find(Some("asked.example")), "asked.example");
    }
}
