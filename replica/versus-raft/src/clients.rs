//! Native clients: puts in, answers out.

use crate::peers::Link;
use crate::with;
use anyhow::{Context, Result, bail, ensure};
use bytes::{Buf, Bytes, BytesMut};
use prost::Message as _;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use vr_core::{RequestNumber, SessionId, WINDOW};
use vr_proto::client::{Answer, MAGIC, Refusal, ToClient, ToReplica, Welcome, answer::Outcome};
use vr_proto::etcdserverpb::request_op::Request;
use vr_proto::etcdserverpb::response_op::Response;
use vr_proto::etcdserverpb::{PutResponse, RangeResponse, ResponseHeader, ResponseOp};
use vr_proto::frame;
use vr_store::{LeaseId, Put, Reply, encode_put};

/// The way to a connected client.
#[derive(Clone, Default)]
pub struct Client(Link);

impl Client {
    pub fn reply(&self, number: RequestNumber, reply: &Reply) {
        let outcome = match reply {
            Ok(response) => {
                let header = ResponseHeader { revision: response.revision.0, ..ResponseHeader::default() };
                ok(Response::ResponsePut(PutResponse { header: Some(header), prev_kv: None }))
            }
            Err(error) => {
                Outcome::Refusal(Refusal { code: error.code() as u32, text: error.text().to_owned() })
            }
        };
        self.answer(number.0, outcome);
    }

    fn answer(&self, number: u64, outcome: Outcome) {
        let answers = vec![Answer { number, outcome: Some(outcome) }];
        self.say(&ToClient { answers, ..ToClient::default() });
    }

    fn say(&self, message: &ToClient) {
        self.0.push(|out| message.encode(out).expect("memory takes everything"));
    }
}

fn ok(response: Response) -> Outcome {
    Outcome::Ok(ResponseOp { response: Some(response) })
}

pub async fn accept(listener: TcpListener) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::task::spawn_local(async move {
            if let Err(error) = serve(stream).await {
                eprintln!("a client's connection ended: {error:#}");
            }
        });
    }
}

async fn serve(stream: TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    let (mut reader, mut writer) = stream.into_split();
    let mut buffer = BytesMut::with_capacity(256 << 10);
    while buffer.len() < MAGIC.len() {
        ensure!(reader.read_buf(&mut buffer).await? > 0, "it ended before it began");
    }
    ensure!(buffer.starts_with(MAGIC), "it is no native client");
    buffer.advance(MAGIC.len());
    let Some(hello) = next(&mut reader, &mut buffer).await? else { return Ok(()) };
    let hello = ToReplica::decode(hello)?.hello.context("it began without a Hello")?;
    let client = Client::default();
    let session = with(|member| {
        let session = member.session(hello.client);
        member.connected(session, client.clone());
        let welcome = Welcome {
            lineage: Bytes::from_static(&[1; 16]),
            generation: 1,
            replica: member.id,
            primary: member.leader(),
            opened: session.incarnation.0,
            window: WINDOW / 2,
        };
        client.say(&ToClient { welcome: Some(welcome), ..ToClient::default() });
        session
    });
    let reading = async {
        while let Some(payload) = next(&mut reader, &mut buffer).await? {
            take(session, &client, payload)?;
        }
        Ok(())
    };
    let end = tokio::select! {
        end = reading => end,
        end = client.0.drain_into(&mut writer) => end.map_err(Into::into),
    };
    with(|member| member.left(session));
    // What was said last may still be on its way.
    let _ = writer.shutdown().await;
    end
}

async fn next(reader: &mut (impl AsyncReadExt + Unpin), buffer: &mut BytesMut) -> Result<Option<Bytes>> {
    loop {
        if let Some(payload) = frame::next_payload(buffer).map_err(anyhow::Error::msg)? {
            return Ok(Some(payload));
        }
        buffer.reserve(64 << 10);
        if reader.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
}

fn take(session: SessionId, client: &Client, payload: Bytes) -> Result<()> {
    let mut body = Vec::new();
    for request in ToReplica::decode(payload)?.requests {
        let put = match request.op.and_then(|op| op.request) {
            Some(Request::RequestPut(put)) => put,
            // What `vr bench` asks first, to see whether anybody is there.
            Some(Request::RequestRange(_)) => {
                client.answer(request.number, ok(Response::ResponseRange(RangeResponse::default())));
                continue;
            }
            other => bail!("only puts are taken, not {other:?}"),
        };
        body.clear();
        let put = Put {
            key: &put.key,
            value: &put.value,
            lease: LeaseId(put.lease),
            prev_kv: false,
            ignore_value: false,
            ignore_lease: false,
        };
        encode_put(&mut body, &put);
        with(|member| {
            ensure!(member.leads(), "this member does not lead");
            member.asked(session, RequestNumber(request.number), &body);
            Ok(())
        })?;
    }
    Ok(())
}
