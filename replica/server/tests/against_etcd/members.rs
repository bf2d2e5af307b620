//! Changes of the members and of the leader that are refused, and those that are not: codes and texts as etcd's.
//!
//! One member and one learner that nobody starts: what needs no second process is compared. Not compared, because it is
//! meant to differ: a member added as a voter begins as a learner here, more than one learner may be there at a time, a
//! member has one peer URL, which must be one also in an update (etcd takes any text there), and the last voter cannot be
//! removed here.

use std::time::Duration;

use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Response, Status};
use vr_proto::etcdserverpb as pb;
use vr_proto::etcdserverpb::cluster_client::ClusterClient;
use vr_proto::etcdserverpb::maintenance_client::MaintenanceClient;

use crate::server;

const PATIENCE: Duration = Duration::from_secs(20);
/// A member that never was one.
const NOBODY: u64 = 0x1234;

/// What a client sees of an answer: its error, or the members without their ids.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Told {
    Refused(Code, String),
    Members(Vec<(String, bool)>),
    Done,
}

/// One of the two servers.
struct Side {
    cluster: ClusterClient<Channel>,
    maintenance: MaintenanceClient<Channel>,
    told: Vec<(String, Told)>,
    /// Its only voter, and that one's peer URL.
    voter: u64,
    url: String,
}

impl Side {
    async fn of(endpoint: &str) -> Side {
        let endpoint = Endpoint::from_shared(endpoint.to_owned()).expect("a URL").timeout(PATIENCE);
        let channel = endpoint.connect_lazy();
        let (mut cluster, maintenance) =
            (ClusterClient::new(channel.clone()), MaintenanceClient::new(channel));
        let members = cluster.member_list(pb::MemberListRequest { linearizable: true }).await;
        let members = members.expect("it serves").into_inner().members;
        let voter = members.first().expect("there is one");
        let (voter, url) = (voter.id, voter.peer_ur_ls[0].clone());
        Side { cluster, maintenance, told: Vec::new(), voter, url }
    }

    fn note<T>(&mut self, what: &str, answer: Result<Response<T>, Status>, told: impl FnOnce(T) -> Told) {
        let told = match answer {
            Ok(answer) => told(answer.into_inner()),
            Err(status) => Told::Refused(status.code(), status.message().to_owned()),
        };
        self.told.push((what.to_owned(), told));
    }

    /// The members as they are told, the voter's own address left out: it is another on each side.
    fn members(&self, members: Vec<pb::Member>) -> Told {
        let url = |member: &pb::Member| {
            let url = member.peer_ur_ls.join(",");
            if url == self.url { "the voter's".to_owned() } else { url }
        };
        let mut members: Vec<_> = members.iter().map(|m| (url(m), m.is_learner)).collect();
        members.sort();
        Told::Members(members)
    }

    async fn add(&mut self, what: &str, url: &str) -> u64 {
        let peer_ur_ls = Some(url.to_owned()).filter(|url| !url.is_empty()).into_iter().collect();
        let answer = self.cluster.member_add(pb::MemberAddRequest { peer_ur_ls, is_learner: true }).await;
        let id = answer.as_ref().ok().and_then(|a| a.get_ref().member.as_ref()).map_or(0, |m| m.id);
        let list = answer.as_ref().ok().map(|answer| self.members(answer.get_ref().members.clone()));
        self.note(what, answer, |_| list.expect("answered"));
        id
    }

    async fn promote(&mut self, what: &str, id: u64) {
        let answer = self.cluster.member_promote(pb::MemberPromoteRequest { id }).await;
        self.note(what, answer, |_| Told::Done);
    }

    async fn remove(&mut self, what: &str, id: u64) {
        let answer = self.cluster.member_remove(pb::MemberRemoveRequest { id }).await;
        let list = answer.as_ref().ok().map(|answer| self.members(answer.get_ref().members.clone()));
        self.note(what, answer, |_| list.expect("answered"));
    }

    async fn update(&mut self, what: &str, id: u64, url: &str) {
        let peer_ur_ls = vec![url.to_owned()];
        let answer = self.cluster.member_update(pb::MemberUpdateRequest { id, peer_ur_ls }).await;
        let list = answer.as_ref().ok().map(|answer| self.members(answer.get_ref().members.clone()));
        self.note(what, answer, |_| list.expect("answered"));
    }

    async fn move_leader(&mut self, what: &str, target_id: u64) {
        let answer = self.maintenance.move_leader(pb::MoveLeaderRequest { target_id }).await;
        self.note(what, answer, |_| Told::Done);
    }

    async fn story(mut self) -> Vec<(String, Told)> {
        let (voter, url) = (self.voter, self.url.clone());
        self.promote("promote somebody unknown", NOBODY).await;
        self.promote("promote a voter", voter).await;
        self.remove("remove somebody unknown", NOBODY).await;
        self.update("update somebody unknown", NOBODY, "http://127.0.0.1:1").await;
        self.move_leader("move to somebody unknown", NOBODY).await;
        self.move_leader("move to whom leads", voter).await;
        for wrong in ["", "127.0.0.1:1", "http://host", "http://host:1/path", "http://host:x", "ftp://host:1"]
        {
            self.add(&format!("add {wrong:?}"), wrong).await;
        }
        self.add("add the voter's URL", &url).await;

        let learner = self.add("add a learner", "http://127.0.0.1:1").await;
        self.promote("promote a learner that nobody started", learner).await;
        self.move_leader("move to a learner", learner).await;
        self.update("update to the voter's URL", learner, &url).await;
        self.update("update to its own URL", learner, "http://127.0.0.1:1").await;
        self.update("update to another URL", learner, "http://127.0.0.1:2").await;
        self.remove("remove the learner", learner).await;
        self.remove("remove it again", learner).await;
        self.promote("promote who was removed", learner).await;
        self.update("update who was removed", learner, "http://127.0.0.1:3").await;
        self.move_leader("move to who was removed", learner).await;
        self.told
    }
}

#[tokio::test]
async fn refused_changes_of_the_members_are_etcds() {
    let Some(binary) = server::binary("VR_ETCD", "etcd") else { return };
    let (etcd, replicas) = (server::etcd(&binary).await, server::replicas(1).await);
    let theirs = Side::of(&etcd.endpoint).await.story().await;
    let ours = Side::of(&replicas[0].endpoint).await.story().await;
    let mut differ = Vec::new();
    for ((what, theirs), (_, ours)) in theirs.iter().zip(&ours) {
        if theirs != ours {
            differ.push(format!("{what}:\n  etcd     {theirs:?}\n  replica  {ours:?}"));
        }
    }
    assert!(differ.is_empty(), "{}", differ.join("\n"));
    assert_eq!(theirs.len(), ours.len());
}
