//! The operator: turns BrokerClusters, Topics and ConsumerGroups into Kubernetes objects and into what brokers hold, and
//! reports back. Every controller reads as a list: fetch, validate, plan, build, apply, status; the middle is pure.

#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod api_server;
pub mod applied;
pub mod arguments;
pub mod broker_admin;
pub mod broker_cluster;
pub mod claims;
pub mod cluster_domain;
pub mod consumer_group;
pub mod context;
pub mod definitions_file;
pub mod deletion;
pub mod difference;
pub mod error;
pub mod events;
pub mod http;
pub mod lease;
pub mod links;
pub mod metrics;
pub mod names;
pub mod news;
pub mod ownership;
pub mod permissions;
pub mod placement;
pub mod push;
pub mod reach;
pub mod run;
pub mod signals;
pub mod status_writer;
pub mod survey;
pub mod topic;
pub mod verdict;
mod watches;
