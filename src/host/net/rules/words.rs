//! The statements that the rules are made of, by the names a reader of nft(8) knows.

use std::net::Ipv4Addr;

use nftables::{
    expr::{
        BinaryOperation, CT, Expression, Meta, MetaKey, NamedExpression, Payload, PayloadField,
        Prefix, RT, RTKey, TcpOption,
    },
    stmt::{Mangle, Match, NAT, Operator, Statement},
};

use crate::domain::Subnet;

type Words = Statement<'static>;

/// `iifname BRIDGE`
pub(super) fn from(bridge: &str) -> Words {
    compare(meta(MetaKey::Iifname), Operator::EQ, text(bridge))
}

/// `oifname BRIDGE`
pub(super) fn to(bridge: &str) -> Words {
    compare(meta(MetaKey::Oifname), Operator::EQ, text(bridge))
}

/// `oifname != BRIDGE`
pub(super) fn not_to(bridge: &str) -> Words {
    compare(meta(MetaKey::Oifname), Operator::NEQ, text(bridge))
}

/// `ip saddr SUBNET`
pub(super) fn source(subnet: Subnet) -> Words {
    compare(payload("ip", "saddr"), Operator::EQ, prefix(subnet))
}

/// `ip saddr != SUBNET`
pub(super) fn not_from_subnet(subnet: Subnet) -> Words {
    compare(payload("ip", "saddr"), Operator::NEQ, prefix(subnet))
}

/// `ip daddr ADDRESS`
pub(super) fn destination(address: Ipv4Addr) -> Words {
    compare(payload("ip", "daddr"), Operator::EQ, text(&address.to_string()))
}

/// `udp dport PORT`
pub(super) fn to_port(protocol: &'static str, port: u16) -> Words {
    compare(payload(protocol, "dport"), Operator::EQ, Expression::Number(port.into()))
}

/// `ct KEY WORD,WORD`
pub(super) fn ct(key: &'static str, words: &[&'static str]) -> Words {
    let key = NamedExpression::CT(CT { key: key.into(), family: None, dir: None });
    let words = words.iter().map(|word| text(word)).collect();
    compare(Expression::Named(key), Operator::IN, Expression::List(words))
}

/// `tcp flags & (syn | rst) == syn`
pub(super) fn syn() -> Words {
    let either = BinaryOperation::OR(vec![text("syn"), text("rst")]);
    let masked = BinaryOperation::AND(
        payload("tcp", "flags"),
        Expression::BinaryOperation(Box::new(either)),
    );
    compare(Expression::BinaryOperation(Box::new(masked)), Operator::EQ, text("syn"))
}

/// `tcp option maxseg size set rt mtu`
pub(super) fn clamp() -> Words {
    let option = TcpOption { name: "maxseg".into(), field: Some("size".into()) };
    let key = Expression::Named(NamedExpression::TcpOption(option));
    let route = NamedExpression::RT(RT { key: RTKey::MTU, family: None });
    Statement::Mangle(Mangle { key, value: Expression::Named(route) })
}

/// `redirect to :PORT`
pub(super) fn redirect(port: u16) -> Words {
    let port = Some(Expression::Number(port.into()));
    Statement::Redirect(Some(NAT { addr: None, family: None, port, flags: None }))
}

/// `masquerade`
pub(super) fn masquerade() -> Words {
    Statement::Masquerade(None)
}

/// `accept`
pub(super) fn accept() -> Words {
    Statement::Accept(None)
}

/// `drop`
pub(super) fn drop() -> Words {
    Statement::Drop(None)
}

fn compare(left: Expression<'static>, op: Operator, right: Expression<'static>) -> Words {
    Statement::Match(Match { left, right, op })
}

fn text(text: &str) -> Expression<'static> {
    Expression::String(text.to_owned().into())
}

fn meta(key: MetaKey) -> Expression<'static> {
    Expression::Named(NamedExpression::Meta(Meta { key }))
}

fn payload(protocol: &'static str, field: &'static str) -> Expression<'static> {
    let field = PayloadField { protocol: protocol.into(), field: field.into() };
    Expression::Named(NamedExpression::Payload(Payload::PayloadField(field)))
}

fn prefix(subnet: Subnet) -> Expression<'static> {
    let addr = Box::new(text(&subnet.network().to_string()));
    let len = Subnet::PREFIX.into();
    Expression::Named(NamedExpression::Prefix(Prefix { addr, len }))
}
