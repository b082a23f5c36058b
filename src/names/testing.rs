//! What the tests of names share.

use std::{
    net::Ipv4Addr,
    sync::{Mutex, PoisonError},
};

use hickory_proto::{
    op::{Message, MessageType, OpCode, Query},
    rr::{Name, RecordType},
};

use super::{Record, Records};
use crate::domain::{Subnet, VmName};

/// VMs that run because a test says so.
#[derive(Debug, Default)]
pub(super) struct Fake(pub Mutex<Vec<Record>>);

impl Fake {
    /// These run.
    pub fn with(names: &[(&str, u8)]) -> Self {
        let records = names.iter().map(|(name, last)| record(name, *last));
        Self(Mutex::new(records.collect()))
    }
}

impl Records for Fake {
    fn by_name(&self, name: &VmName) -> Option<Record> {
        self.all().into_iter().find(|record| record.name == *name)
    }

    fn by_address(&self, address: Ipv4Addr) -> Option<Record> {
        self.all().into_iter().find(|record| record.address == address)
    }

    fn all(&self) -> Vec<Record> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A VM in 172.30.4.0/22.
pub(super) fn record(name: &str, last: u8) -> Record {
    let address = Ipv4Addr::new(172, 30, 4, last);
    Record { name: name.parse().expect("a name"), address }
}

/// 172.30.4.0/22.
pub(super) fn subnet() -> Subnet {
    "172.30.4.0/22".parse().expect("a subnet")
}

/// A query as a resolver sends it.
pub(super) fn query(name: &str, kind: RecordType) -> Vec<u8> {
    let mut message = Message::new(0x1234, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).expect("a name"), kind));
    message.to_vec().expect("a message")
}
