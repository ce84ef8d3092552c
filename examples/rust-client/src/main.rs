//! A reader of Unchained's network, with libp2p from crates.io: it joins a node, reads the headers
//! of its chain, checks them as far as that needs no state, and follows the coins that are mined.
//!
//!     cargo run -- /ip4/127.0.0.1/tcp/4001/p2p/12D3KooW… GENESIS_ID --coins 3
//!
//! Written from docs/wire.md alone. It prints one line of JSON for everything that it learns. The
//! node must take classical links (docs/network.md).

use std::error::Error;
use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, StreamExt};
use libp2p::gossipsub::{self, IdentTopic, MessageAuthenticity, ValidationMode};
use libp2p::request_response::{self, Event, Message, ProtocolSupport};
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{identify, multiaddr::Protocol, noise, ping, tcp, yamux};
use libp2p::{Multiaddr, StreamProtocol, SwarmBuilder};
use rmpv::Value;

type Failure = Box<dyn Error + Send + Sync>;

const COIN_BYTES: usize = 198;
const HEADERS_AT_ONCE: usize = 512;
const ANSWER_BYTES_MAX: usize = 205_000;
const PATIENCE: Duration = Duration::from_secs(60);

/// H(context, data) of the protocol.
fn digest(context: &str, data: &[u8]) -> [u8; 32] {
    blake3::derive_key(&format!("unchained v1 {context}"), data)
}

fn hex(data: &[u8]) -> String {
    data.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |at: usize| u8::from_str_radix(text.get(at..at + 2)?, 16).ok();
    (0..text.len()).step_by(2).map(digit).collect()
}

/// What is read of a coin's 198 bytes.
struct Coin {
    id: [u8; 32],
    parent: Vec<u8>,
    height: u64,
    body_root: Vec<u8>,
}

impl Coin {
    /// Read a coin, once its id meets its own target.
    fn open(raw: &[u8]) -> Result<Coin, Failure> {
        if raw.len() != COIN_BYTES {
            return Err(format!("a coin of {} bytes", raw.len()).into());
        }
        let id = digest("coin", raw);
        if id[..] > raw[62..94] {
            return Err(format!("{} is above its target", hex(&id)).into());
        }
        Ok(Coin {
            id,
            parent: raw[6..38].to_vec(),
            height: u64::from_be_bytes(raw[38..46].try_into()?),
            body_root: raw[126..158].to_vec(),
        })
    }
}

fn items(value: &Value) -> Result<&Vec<Value>, Failure> {
    value.as_array().ok_or_else(|| "no array".into())
}

fn bytes(value: &Value) -> Result<&[u8], Failure> {
    value.as_slice().ok_or_else(|| "no bytes".into())
}

/// Read an anchor, once it fits on its parent and commits to its roots.
fn check_header(header: &Value, parent: &[u8], height: u64) -> Result<Coin, Failure> {
    let [raw, fresh, uncles, transfers, state, history] = &items(header)?[..] else {
        return Err("a header has six members".into());
    };
    let coin = Coin::open(bytes(raw)?)?;
    if coin.parent != parent || coin.height != height {
        return Err(format!("{} is no child of {}", hex(&coin.id), hex(parent)).into());
    }
    let mut roots = Vec::new();
    for list in [fresh, uncles, transfers] {
        let [n, top] = &items(list)?[..] else {
            return Err("a list has a length and a top".into());
        };
        let n = u32::try_from(n.as_u64().ok_or("no number")?)?;
        roots.extend(digest("merkle", &[&n.to_be_bytes()[..], bytes(top)?].concat()));
    }
    roots.extend([bytes(state)?, bytes(history)?].concat());
    if digest("body", &roots)[..] != coin.body_root[..] {
        return Err(format!("{} commits to other roots", hex(&coin.id)).into());
    }
    Ok(coin)
}

/// Requests and answers: u32 length and bytes; u8 status, u32 length and bytes.
#[derive(Clone, Default)]
struct Raw;

async fn read_sized<T: AsyncRead + Unpin + Send>(io: &mut T, most: usize) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    io.read_exact(&mut length).await?;
    let length = u32::from_be_bytes(length) as usize;
    if length > most {
        return Err(io::Error::other(format!("{length} bytes, at most {most}")));
    }
    let mut data = vec![0; length];
    io.read_exact(&mut data).await?;
    Ok(data)
}

#[async_trait]
impl request_response::Codec for Raw {
    type Protocol = StreamProtocol;
    type Request = Vec<u8>;
    type Response = Vec<u8>;

    async fn read_request<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Vec<u8>>
    where
        T: AsyncRead + Unpin + Send,
    {
        read_sized(io, 256).await
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Vec<u8>>
    where
        T: AsyncRead + Unpin + Send,
    {
        let mut status = [0];
        io.read_exact(&mut status).await?;
        match status[0] {
            0 => read_sized(io, ANSWER_BYTES_MAX).await,
            status => Err(io::Error::other(format!("status {status}"))),
        }
    }

    async fn write_request<T>(&mut self, _: &StreamProtocol, io: &mut T, data: Vec<u8>) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        io.write_all(&[&(data.len() as u32).to_be_bytes()[..], &data].concat()).await
    }

    async fn write_response<T>(&mut self, _: &StreamProtocol, io: &mut T, data: Vec<u8>) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        io.write_all(&[&[0][..], &(data.len() as u32).to_be_bytes()[..], &data].concat()).await
    }
}

#[derive(NetworkBehaviour)]
struct Reader {
    identify: identify::Behaviour,
    ping: ping::Behaviour,
    gossip: gossipsub::Behaviour,
    status: request_response::Behaviour<Raw>,
    headers: request_response::Behaviour<Raw>,
}

/// A reader has no chain: it stands at genesis.
fn own_status(genesis: &[u8]) -> Result<Vec<u8>, Failure> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as u64;
    let id = || Value::Binary(genesis.to_vec());
    let zero = Value::Binary(vec![0; 32]);
    packed(&[id(), id(), 0.into(), zero, 1.into(), now.into()])
}

fn packed(members: &[Value]) -> Result<Vec<u8>, Failure> {
    let mut data = Vec::new();
    rmpv::encode::write_value(&mut data, &Value::Array(members.to_vec()))?;
    Ok(data)
}

/// Ask for the anchors above one, of the node's own chain.
fn headers_request(above: &[u8]) -> Result<Vec<u8>, Failure> {
    let locator = Value::Array(vec![Value::Binary(above.to_vec())]);
    packed(&[locator, Value::Binary(vec![0; 32])])
}

/// Return what an answer gives: u8 code, then MessagePack if it is 0.
fn opened(body: &[u8]) -> Result<Vec<Value>, Failure> {
    match body.split_first() {
        Some((0, mut rest)) => Ok(items(&rmpv::decode::read_value(&mut rest)?)?.clone()),
        other => Err(format!("code {:?}", other.map(|(code, _)| code)).into()),
    }
}

async fn read(address: Multiaddr, genesis: Vec<u8>, coins: usize) -> Result<(), Failure> {
    let name = |kind: &str| format!("/unchained/{}/{kind}/1", hex(&genesis[..4]));
    let protocol = |kind: &str| StreamProtocol::try_from_owned(name(kind));
    let config = || request_response::Config::default().with_request_timeout(Duration::from_secs(20));
    let behaviour = |kind: &str, support| -> Result<_, Failure> {
        Ok(request_response::Behaviour::<Raw>::new([(protocol(kind)?, support)], config()))
    };
    let gossip_config = gossipsub::ConfigBuilder::default()
        .validation_mode(ValidationMode::Anonymous)
        .message_id_fn(|message: &gossipsub::Message| {
            let topic = message.topic.as_str().as_bytes();
            let length = (topic.len() as u16).to_be_bytes();
            digest("gossip", &[&length[..], topic, &message.data].concat()).to_vec().into()
        })
        .build()?;
    let mut swarm = SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)?
        .with_behaviour(|key| {
            Ok(Reader {
                identify: identify::Behaviour::new(identify::Config::new("unchained/1".into(), key.public())),
                ping: ping::Behaviour::default(),
                gossip: gossipsub::Behaviour::new(MessageAuthenticity::Anonymous, gossip_config)?,
                status: behaviour("status", ProtocolSupport::Full)?,
                headers: behaviour("headers", ProtocolSupport::Outbound)?,
            })
        })?
        .with_swarm_config(|config| config.with_idle_connection_timeout(PATIENCE))
        .build();
    let Some(Protocol::P2p(node)) = address.iter().last() else {
        return Err("the address ends in /p2p/ and the node's id".into());
    };
    swarm.dial(address)?;
    let (mut parent, mut height, mut followed) = (genesis.clone(), 0, 0);
    while followed < coins {
        let event = tokio::time::timeout(PATIENCE, swarm.select_next_some()).await?;
        match event {
            SwarmEvent::ConnectionEstablished { peer_id, .. } if peer_id == node => {
                swarm.behaviour_mut().status.send_request(&node, own_status(&genesis)?);
            }
            SwarmEvent::OutgoingConnectionError { error, .. } => return Err(error.into()),
            SwarmEvent::ConnectionClosed { cause, .. } => return Err(format!("closed: {cause:?}").into()),
            SwarmEvent::Behaviour(ReaderEvent::Identify(identify::Event::Received { info, .. })) => {
                println!(r#"{{"agent": {:?}, "observed": "{}"}}"#, info.agent_version, info.observed_addr);
            }
            SwarmEvent::Behaviour(ReaderEvent::Status(Event::Message { message, .. })) => match message {
                Message::Request { channel, .. } => {
                    let answer = [vec![0], own_status(&genesis)?].concat();
                    let _gone = swarm.behaviour_mut().status.send_response(channel, answer);
                }
                Message::Response { response, .. } => {
                    let status = opened(&response)?;
                    if bytes(status.first().ok_or("no status")?)? != genesis {
                        return Err("the node is of another network".into());
                    }
                    println!(r#"{{"peer": "{node}", "height": {}}}"#, status.get(2).ok_or("no height")?);
                    swarm.behaviour_mut().headers.send_request(&node, headers_request(&parent)?);
                }
            },
            SwarmEvent::Behaviour(ReaderEvent::Headers(Event::Message {
                message: Message::Response { response, .. },
                ..
            })) => {
                let page = opened(&response)?;
                for header in &page {
                    height += 1;
                    parent = check_header(header, &parent, height)?.id.to_vec();
                    println!(r#"{{"anchor": "{}", "height": {height}}}"#, hex(&parent));
                }
                if page.len() == HEADERS_AT_ONCE {
                    swarm.behaviour_mut().headers.send_request(&node, headers_request(&parent)?);
                    continue;
                }
                println!(r#"{{"read": {height}, "tip": "{}"}}"#, hex(&parent));
                swarm.behaviour_mut().gossip.subscribe(&IdentTopic::new(name("coin")))?;
                println!(r#"{{"following": "{}"}}"#, name("coin"));
            }
            SwarmEvent::Behaviour(ReaderEvent::Headers(Event::OutboundFailure { error, .. })) => {
                return Err(error.into())
            }
            SwarmEvent::Behaviour(ReaderEvent::Status(Event::OutboundFailure { error, .. })) => {
                return Err(error.into())
            }
            SwarmEvent::Behaviour(ReaderEvent::Gossip(gossipsub::Event::Message { message, .. })) => {
                let coin = Coin::open(&message.data)?;
                let (id, parent, height) = (hex(&coin.id), hex(&coin.parent), coin.height);
                println!(r#"{{"coin": "{id}", "height": {height}, "parent": "{parent}"}}"#);
                followed += 1;
            }
            _ => {}
        }
    }
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().collect();
    match &arguments.iter().map(String::as_str).collect::<Vec<_>>()[1..] {
        [address, genesis, "--coins", coins] => {
            let genesis = from_hex(genesis).filter(|id| id.len() == 32).ok_or("no genesis id")?;
            read(address.parse()?, genesis, coins.parse()?).await
        }
        _ => Err("usage: ADDRESS GENESIS_ID --coins N".into()),
    }
}
