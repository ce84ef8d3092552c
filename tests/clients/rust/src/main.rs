//! Connects to a node: `clients libp2p tls|noise ADDRESS` by rust-libp2p, or
//! `clients rustls GROUP ALPN ADDRESS` by rustls and nothing else of a kind.
//!
//! Prints what was agreed on and exits with 0, or why there is no link and exits with 1.

mod by_libp2p;
mod by_rustls;

use std::process::ExitCode;

use libp2p::Multiaddr;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match arguments[..] {
        ["libp2p", security, address] => by_libp2p::connect(security, parse(address)),
        ["rustls", group, alpn, address] => by_rustls::connect(group, alpn, parse(address)),
        _ => panic!("usage: clients libp2p tls|noise ADDRESS | rustls GROUP ALPN ADDRESS"),
    };
    match result {
        Ok(agreed) => {
            println!("{agreed}");
            ExitCode::SUCCESS
        }
        Err(why) => {
            println!("refused: {why}");
            ExitCode::FAILURE
        }
    }
}

fn parse(address: &str) -> Multiaddr {
    address.parse().expect("an address such as /ip4/127.0.0.1/tcp/9000/p2p/PEER")
}
