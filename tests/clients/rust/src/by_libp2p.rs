//! A link by rust-libp2p, with one security protocol.

use std::time::Duration;

use futures::StreamExt;
use libp2p::swarm::SwarmEvent;
use libp2p::{noise, ping, tcp, tls, yamux, Multiaddr, SwarmBuilder};

/// Makes a swarm of a builder with its transport, whose type depends on it.
macro_rules! swarm {
    ($builder:expr) => {
        $builder
            .expect("a transport")
            .with_behaviour(|_| ping::Behaviour::default())
            .expect("a behaviour")
            .with_swarm_config(|config| {
                config.with_idle_connection_timeout(Duration::from_secs(10))
            })
            .build()
    };
}

pub fn connect(security: &str, address: Multiaddr) -> Result<String, String> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(dial(security, address))
}

async fn dial(security: &str, address: Multiaddr) -> Result<String, String> {
    let builder = SwarmBuilder::with_new_identity().with_tokio();
    let (tcp, muxer) = (tcp::Config::default(), yamux::Config::default);
    let mut swarm = match security {
        "tls" => swarm!(builder.with_tcp(tcp, tls::Config::new, muxer)),
        "noise" => swarm!(builder.with_tcp(tcp, noise::Config::new, muxer)),
        other => panic!("tls or noise, not {other}"),
    };
    swarm.dial(address).map_err(|error| error.to_string())?;
    loop {
        match swarm.select_next_some().await {
            // Established is a link before the node has said a word in it: wait for one.
            SwarmEvent::Behaviour(ping::Event { peer, .. }) => return Ok(peer.to_string()),
            SwarmEvent::ConnectionClosed { peer_id, .. } => return Ok(peer_id.to_string()),
            // Only like this it says what was below.
            SwarmEvent::OutgoingConnectionError { error, .. } => return Err(format!("{error:?}")),
            _ => {}
        }
    }
}
