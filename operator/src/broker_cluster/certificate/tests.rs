//! Certificates that are made, as a client reads and verifies them, and what is said of those that brokers cannot use.

use std::sync::Arc;

use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::check::Flaw;
use super::*;
use crate::broker_cluster::build::tests::valid;

const NOW_S: i64 = 1_800_000_000;
const YEAR_S: i64 = 365 * 86_400;

fn names_of(spec: &str) -> BTreeSet<String> {
    let assigned = BTreeSet::from(["203.0.113.9".to_owned()]);
    names::names(&valid(spec), "cluster.local", &assigned)
}

fn read(pair: &Pair) -> Leaf {
    check::secret(Some(pair.chain.as_bytes()), Some(pair.key.as_bytes())).unwrap()
}

/// As a client does that trusts an authority.
fn verify(pair: &Pair, authority: &str, host: &str, now_s: i64) -> Result<(), rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier =
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
    let leaf = CertificateDer::from_pem_slice(pair.chain.as_bytes()).unwrap();
    let host = ServerName::try_from(host.to_owned()).unwrap();
    let now = UnixTime::since_unix_epoch(Duration::from_secs(now_s.unsigned_abs()));
    verifier.verify_server_cert(&leaf, &[], &host, &[], now).map(|_| ())
}

#[test]
fn the_names_are_those_of_services_brokers_and_what_listeners_say() {
    let spec = "{brokers: 2, shards: 2, listeners: [{name: client}, {name: out, type: LoadBalancer, hosts: [mq.example.com, '2001:db8::0:1']}]}";
    insta::assert_yaml_snapshot!("names", names_of(spec));
    assert_eq!(names_of("{brokers: 1}"), names_of("{brokers: 3}"), "brokers may come and go");
}

#[test]
fn a_client_that_trusts_the_authority_verifies_every_name_and_no_other() {
    let valid = valid("{listeners: [{name: client, hosts: [mq.example.com]}]}");
    let names = names::names(&valid, "cluster.local", &BTreeSet::new());
    let authority = make::authority(&valid, None, NOW_S).unwrap();
    let pair = make::leaf(&valid, &authority, &names, NOW_S).unwrap();
    for host in [
        "default-client",
        "default-client.shop",
        "default-client.shop.svc",
        "default-client.shop.svc.cluster.local",
        "default-broker-0-0.default-brokers.shop.svc",
        "default-broker-63-0.default-brokers.shop.svc.cluster.local",
        "mq.example.com",
        "localhost",
        "127.0.0.1",
        "::1",
    ] {
        verify(&pair, authority.pem(), host, NOW_S).unwrap_or_else(|e| panic!("{host}: {e}"));
    }
    for host in ["other-client.shop.svc", "default-client.evil.svc", "192.0.2.1", "example.com"] {
        assert!(verify(&pair, authority.pem(), host, NOW_S).is_err(), "{host}");
    }
    let other = make::authority(&valid, None, NOW_S).unwrap();
    assert!(verify(&pair, other.pem(), "default-client", NOW_S).is_err(), "another authority");
    assert!(verify(&pair, authority.pem(), "default-client", NOW_S + YEAR_S + 1).is_err());
    let leaf = read(&pair);
    assert_eq!(leaf.names, names);
    assert!(authority.signed(&leaf) && !other.signed(&leaf) && !leaf.is_authority);
}

#[test]
fn a_certificate_is_made_anew_when_a_third_of_its_time_is_left() {
    let valid = valid("{}");
    let authority = make::authority(&valid, None, NOW_S).unwrap();
    let names = names::names(&valid, "cluster.local", &BTreeSet::new());
    let leaf = read(&make::leaf(&valid, &authority, &names, NOW_S).unwrap());
    assert!(!make::is_due(&leaf, NOW_S + YEAR_S / 2));
    assert!(make::is_due(&leaf, NOW_S + YEAR_S * 3 / 4));
}

#[test]
fn a_renewed_authority_is_trusted_by_clients_of_the_one_before_and_trusts_what_that_one_signed() {
    let valid = valid("{}");
    let names = names::names(&valid, "cluster.local", &BTreeSet::new());
    let first = make::authority(&valid, None, NOW_S).unwrap();
    let first_pem = first.pem().to_owned();
    let old = make::leaf(&valid, &first, &names, NOW_S).unwrap();
    assert!(!first.is_due(NOW_S + 7 * YEAR_S));
    assert!(first.is_due(NOW_S + 9 * YEAR_S));
    let later_s = NOW_S + YEAR_S / 2;
    let second = make::authority(&valid, Some(first), later_s).unwrap();
    assert_ne!(second.pem(), first_pem);
    let new = make::leaf(&valid, &second, &names, later_s).unwrap();
    verify(&new, &first_pem, "default-client", later_s).unwrap();
    verify(&old, second.pem(), "default-client", later_s).unwrap();
}

#[test]
fn what_brokers_cannot_use_is_told_without_the_key() {
    let made = |host: &str| rcgen::generate_simple_self_signed([host.to_owned()]).unwrap();
    let (one, other) = (made("a.example"), made("b.example"));
    let (chain, key) = (one.cert.pem(), one.signing_key.serialize_pem());
    let look = |chain: &str, key: &str| {
        let part = |text: &str| (!text.is_empty()).then(|| text.as_bytes().to_vec());
        check::secret(part(chain).as_deref(), part(key).as_deref())
    };
    assert_eq!(look(&chain, &key).unwrap().names, BTreeSet::from(["a.example".to_owned()]));
    assert_eq!(look("", &key).unwrap_err(), Flaw::Absent("tls.crt"));
    assert_eq!(look(&chain, "").unwrap_err(), Flaw::Absent("tls.key"));
    assert_eq!(look(&chain, &other.signing_key.serialize_pem()).unwrap_err(), Flaw::Mismatch);
    assert_eq!(look(&key, &key).unwrap_err().word(), "CertificateUnreadable");
    assert_eq!(look(&chain, "no key").unwrap_err(), Flaw::Key);
    let cut = &key[..key.len() / 2];
    let flaw = look(&chain, cut).unwrap_err();
    assert_eq!(flaw, Flaw::Key);
    let middle = &key[40..60];
    assert!(!flaw.to_string().contains(middle) && !format!("{flaw:?}").contains(middle));
}

#[test]
fn debug_texts_show_no_key() {
    let valid = valid("{}");
    let authority = make::authority(&valid, None, NOW_S).unwrap();
    let text = format!("{authority:?} {:?}", authority.pair());
    assert!(!text.contains("PRIVATE") && !text.contains(&authority.pair().key[40..60]), "{text}");
}

#[test]
fn cert_manager_is_asked_for_all_names() {
    let valid = valid("{tls: {issuerRef: {name: corporate, kind: ClusterIssuer}}}");
    let names = names::names(&valid, "cluster.local", &BTreeSet::new());
    let Source::Issuer(issuer) = source(&valid) else { panic!("an issuer is named") };
    insta::assert_yaml_snapshot!("asked-of-an-issuer", issuer::certificate(&valid, issuer, &names));
    assert_eq!(secret_name(&valid), "default-issued-tls");
}

#[test]
fn an_ended_certificate_is_served_and_told_of() {
    let valid = valid("{tls: {secretName: mine}}");
    let made = rcgen::generate_simple_self_signed(["a.example".to_owned()]).unwrap();
    let mut leaf = read(&Pair { chain: made.cert.pem(), key: made.signing_key.serialize_pem() });
    leaf.not_after_s = NOW_S;
    let ended = Certificate::found(&valid, "FromSecret", &leaf, false, NOW_S);
    assert_eq!(ended.trouble, None);
    let finding = ended.finding.unwrap();
    assert_eq!((finding.status, finding.reason), (Truth::False, "CertificateExpired"));
    assert!(finding.message.contains("2027-01-15T08:00:00Z"), "{}", finding.message);
}
