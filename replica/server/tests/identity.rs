//! Who a replica is to its object store: keys that end, and an agent that hands out the next ones.
//!
//! The agent stands for that of EKS Pod Identity (and of ECS): the SDK asks it with a token that lies in a file, which the
//! kubelet writes anew.

mod cluster;

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cluster::object_store::ObjectStore;
use cluster::{Cluster, Replica, S3_KEYS, eventually, rpc};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use vr_checkpoint::restore::Target;

/// The SDK looks for other keys ten seconds before the end: these it asks for again with nearly every request.
const LIFE: Duration = Duration::from_secs(11);

#[derive(Default)]
struct Desk {
    /// Whose keys are handed out; nobody's if absent.
    user: Option<String>,
    /// The tokens that were shown, each once.
    tokens: Vec<String>,
}

struct Agent {
    desk: Arc<Mutex<Desk>>,
    url: String,
    token: PathBuf,
    _dir: tempfile::TempDir,
}

impl Agent {
    async fn start(user: &str, token: &str) -> Agent {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}/v1/credentials", listener.local_addr().expect("bound"));
        let dir = tempfile::tempdir().expect("a temporary directory");
        let desk = Arc::new(Mutex::new(Desk { user: Some(user.to_owned()), tokens: Vec::new() }));
        let agent = Agent { desk, url, token: dir.path().join("token"), _dir: dir };
        agent.write_token(token);
        let desk = agent.desk.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") && stream.read_buf(&mut head).await.is_ok_and(|n| n > 0) {}
                let answer = desk.lock().expect("nobody panics while holding it").answer(&head);
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        agent
    }

    fn write_token(&self, token: &str) {
        fs::write(&self.token, token).expect("the temporary directory is writable");
    }

    fn hands_out(&self, user: Option<&str>) {
        self.desk.lock().expect("nobody panics while holding it").user = user.map(str::to_owned);
    }

    fn tokens(&self) -> Vec<String> {
        self.desk.lock().expect("nobody panics while holding it").tokens.clone()
    }

    fn environment(&self) -> Vec<(String, String)> {
        let pair = |name: &str, value: String| (name.to_owned(), value);
        vec![
            pair("AWS_CONTAINER_CREDENTIALS_FULL_URI", self.url.clone()),
            pair("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", self.token.display().to_string()),
        ]
    }
}

impl Desk {
    fn answer(&mut self, head: &[u8]) -> String {
        let head = String::from_utf8_lossy(head).into_owned();
        let shown = head.lines().find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case("authorization").then(|| value.to_owned())
        });
        if let Some(token) = shown
            && !self.tokens.contains(&token)
        {
            self.tokens.push(token);
        }
        let (status, body) = match &self.user {
            Some(user) => {
                let end = (SystemTime::now() + LIFE).duration_since(UNIX_EPOCH).expect("after the epoch");
                let micros = u64::try_from(end.as_micros()).expect("not so late");
                let keys = serde_json::json!({
                    "AccessKeyId": user,
                    "SecretAccessKey": S3_KEYS.1,
                    "Token": "a session",
                    "Expiration": Target::Time(micros).to_string(),
                });
                ("200 OK", keys.to_string())
            }
            None => ("403 Forbidden", r#"{"code":"AccessDenied","message":"no association"}"#.to_owned()),
        };
        let length = body.len();
        format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
        )
    }
}

async fn error(replica: &Replica) -> Option<String> {
    let report = replica.status().await.expect("it runs");
    report.tiers.into_iter().find(|tier| tier.tier == "objectStore").expect("it has this tier").error
}

/// A write, and waits until the object store has it.
async fn shipped(replica: &Replica, key: &str) {
    rpc::put(&replica.channel(), key.to_owned(), "value").await.expect("it serves");
    let commit = replica.status().await.expect("it runs").commit;
    eventually("the object store has everything", async || {
        let report = replica.status().await?;
        let tier = report.tiers.into_iter().find(|tier| tier.tier == "objectStore")?;
        (tier.error.is_none() && tier.recovery_op >= commit).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_that_end_are_followed_by_those_that_the_agent_hands_out_next() {
    let mut store = ObjectStore::start().await;
    let agent = Agent::start(S3_KEYS.0, "token-1").await;
    let mut cluster = Cluster::start_as(1, |raw| store.join(raw)).await;
    let replica = &mut cluster.replicas[0];
    assert_eq!(replica.stop().await, Some(0));
    replica.environment = Some(agent.environment());
    replica.start();
    replica.ready().await.expect("it was stopped cleanly");
    shipped(replica, "with the first keys").await;

    // The kubelet writes another token, the agent hands out other keys, and those before are worth nothing.
    agent.write_token("token-2");
    agent.hands_out(Some("second"));
    store.serve_only("second").await;
    shipped(replica, "with the second keys").await;
    assert_eq!(agent.tokens(), ["token-1", "token-2"]);

    // No keys at all: said as that, and over as soon as there are some.
    agent.hands_out(None);
    let said = eventually("the tier says that it is in trouble", async || {
        rpc::put(&replica.channel(), "meanwhile".to_owned(), "value").await.expect("it serves without");
        error(replica).await
    })
    .await;
    for words in ["s3://checkpoints/tests/", "no credentials were to be had", "403"] {
        assert!(said.contains(words), "it does not say `{words}`: {said}");
    }
    agent.hands_out(Some("second"));
    shipped(replica, "again").await;
    assert_eq!(replica.stop().await, Some(0));
}
