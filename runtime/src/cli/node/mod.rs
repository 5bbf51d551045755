//! This machine as one of many: `cluster`, `serve`, `deploy`, and what is cast elsewhere.

mod certificates;
mod defaults;
mod deploy;
mod elsewhere;
mod file;
mod host;
mod init;
mod member;
mod origins;
mod serve;
mod sockets;
mod watch;

pub(super) use certificates::{cluster_renew, cluster_show};
pub(super) use deploy::{deploy, guests_of, key, sign};
pub(super) use elsewhere::{SocketLinks, cast, keeper, node_error, peers_here, reach, reach_by, summon};
pub(super) use file::reach_of;
pub(super) use init::cluster_init;
pub(super) use serve::serve;
