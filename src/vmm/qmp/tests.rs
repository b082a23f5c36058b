//! The parser and the client against what a real QEMU 7.2 said.

use std::sync::{Arc, Mutex};

use proptest::prelude::{ProptestConfig, any, prop, proptest};
use tokio::io::{AsyncBufReadExt, BufReader};

use super::*;

/// Recorded from Debian's QEMU 7.2.22: a command before the negotiation, the negotiation, an
/// unknown command, stop and cont, a line that is no JSON, the power button.
const RECORDED: &str = concat!(
    r#"{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": "Debian 1:7.2+dfsg-7+deb12u18+b3"}, "capabilities": ["oob"]}}"#,
    "\r\n",
    r#"{"id": 1, "error": {"class": "CommandNotFound", "desc": "Expecting capabilities negotiation with 'qmp_capabilities'"}}"#,
    "\r\n",
    r#"{"return": {}, "id": 0}"#,
    "\r\n",
    r#"{"id": 2, "error": {"class": "CommandNotFound", "desc": "The command system_powerup has not been found"}}"#,
    "\r\n",
    r#"{"timestamp": {"seconds": 1795296728, "microseconds": 423949}, "event": "STOP"}"#,
    "\r\n",
    r#"{"return": {}, "id": 3}"#,
    "\r\n",
    r#"{"error": {"class": "GenericError", "desc": "JSON parse error, invalid keyword 'nonsense'"}}"#,
    "\r\n",
    r#"{"timestamp": {"seconds": 1795296729, "microseconds": 336789}, "event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-shutdown"}}"#,
    "\r\n",
);

fn recorded() -> Vec<Result<Message, BadLine>> {
    let returned = |id| Ok(Message::Return { id: Some(id), value: json!({}) });
    let error = |id, message: &str| Ok(Message::Error { id, message: message.to_owned() });
    let event = |name: &str, data| Ok(Message::Event(Event { name: name.to_owned(), data }));
    vec![
        Ok(Message::Greeting),
        error(Some(1), "Expecting capabilities negotiation with 'qmp_capabilities'"),
        returned(0),
        error(Some(2), "The command system_powerup has not been found"),
        event("STOP", Value::Null),
        returned(3),
        error(None, "JSON parse error, invalid keyword 'nonsense'"),
        event("SHUTDOWN", json!({"guest": true, "reason": "guest-shutdown"})),
    ]
}

#[test]
fn a_recorded_stream_is_understood() {
    assert_eq!(Parser::default().feed(RECORDED.as_bytes()), recorded());
}

#[test]
fn what_is_no_message_is_told_and_the_next_line_is_read() {
    let mut parser = Parser::default();
    let heard = parser.feed(b"hello\n[]\n{}\n{\"event\": 5}\n\n\r\n{\"return\": null}\n");
    assert_eq!(heard.len(), 5);
    assert!(heard[..4].iter().all(|m| matches!(m, Err(BadLine::Unknown(_)))), "{heard:?}");
    assert_eq!(heard[4], Ok(Message::Return { id: None, value: Value::Null }));
}

#[test]
fn a_line_without_end_is_cut_off() {
    let mut parser = Parser::default();
    let mut bad = Vec::new();
    for _ in 0..100 {
        bad.extend(parser.feed(&[b'x'; 4096]));
        assert!(parser.line.len() <= LINE_MAX);
    }
    assert_eq!(bad, [Err(BadLine::TooLong)], "told once");
    assert_eq!(parser.feed(b"x\n{\"QMP\": {}}\n"), [Ok(Message::Greeting)]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn the_pieces_in_which_it_comes_do_not_matter(sizes in prop::collection::vec(1_usize..40, 1..90)) {
        let mut parser = Parser::default();
        let mut heard = Vec::new();
        let mut rest = RECORDED.as_bytes();
        for size in sizes.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, after) = rest.split_at((*size).min(rest.len()));
            heard.extend(parser.feed(piece));
            rest = after;
        }
        assert_eq!(heard, recorded());
    }

    #[test]
    fn garbage_never_panics(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..20)) {
        let mut parser = Parser::default();
        for piece in pieces {
            parser.feed(&piece);
        }
    }

    #[test]
    fn a_damaged_stream_never_panics(at in 0..RECORDED.len(), with in any::<u8>()) {
        let mut bytes = RECORDED.as_bytes().to_vec();
        bytes[at] = with;
        assert!(!Parser::default().feed(&bytes).is_empty());
    }
}

/// A server that says one thing for each line it hears, and then closes the connection.
fn server(greeting: &'static str, answers: &'static [&'static str]) -> UnixStream {
    let (ours, theirs) = UnixStream::pair().expect("pair");
    tokio::spawn(async move {
        let (from, mut to) = theirs.into_split();
        let mut lines = BufReader::new(from).lines();
        to.write_all(greeting.as_bytes()).await.expect("greet");
        for answer in answers {
            if lines.next_line().await.expect("read").is_none() {
                return;
            }
            to.write_all(answer.as_bytes()).await.expect("answer");
        }
    });
    ours
}

const GREETING: &str = "{\"QMP\": {}}\r\n";
const NEGOTIATED: &str = "{\"return\": {}, \"id\": 0}\r\n";

#[tokio::test]
async fn events_between_a_command_and_its_answer_are_heard() {
    let stream = server(
        GREETING,
        &[
            "{\"event\": \"RESUME\"}\n{\"return\": {}, \"id\": 0}\n{\"event\": \"STOP\"}\n",
            "{\"event\": \"A\"}\n{\"return\": 7, \"id\": 99}\n{\"return\": 5, \"id\": 1}\n{\"event\": \"B\"}\n",
            "{\"error\": {\"desc\": \"no such thing\"}, \"id\": 2}\n",
        ],
    );
    let events = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&events);
    let mut client = Client::start(stream, move |event| {
        heard.lock().expect("lock").push(event.name);
    })
    .await
    .expect("start");
    assert_eq!(client.execute("first").await.expect("answer"), json!(5));
    let error = client.execute("second").await.expect_err("refused").to_string();
    assert_eq!(error, "second failed: no such thing");
    client.drained().await;
    assert_eq!(*events.lock().expect("lock"), ["RESUME", "STOP", "A", "B"]);
    let error = client.execute("third").await.expect_err("closed").to_string();
    assert!(error.contains("closed before third was answered"), "{error}");
}

/// The process dies while the machine that runs us stands still: its end is heard first, and what it
/// said before nobody has had time for.
#[tokio::test]
async fn the_last_words_are_heard_however_late() {
    let (ours, mut theirs) = UnixStream::pair().expect("pair");
    theirs.write_all(format!("{GREETING}{NEGOTIATED}").as_bytes()).await.expect("greet");
    let events = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&events);
    let hear = move |event: Event| heard.lock().expect("lock").push(event.name);
    let mut client = Client::start(ours, hear).await.expect("start");
    // The task finds nothing to read, and waits to be told by the runtime that there is.
    tokio::task::yield_now().await;
    let mut theirs = theirs.into_std().expect("a socket");
    let last = "{\"event\": \"POWERDOWN\"}\n{\"event\": \"SHUTDOWN\"}\n";
    std::io::Write::write_all(&mut theirs, last.as_bytes()).expect("written");
    {
        // A child of the server's may have the connection open for ever: its end is not waited for.
        let mut drained = std::pin::pin!(client.drained());
        tokio::select! {
            biased;
            () = &mut drained => panic!("the task has not had a turn"),
            () = std::future::ready(()) => {}
        }
        // Longer than anybody would wait for the task.
        std::thread::sleep(std::time::Duration::from_millis(600));
        drained.await;
    }
    assert_eq!(*events.lock().expect("lock"), ["POWERDOWN", "SHUTDOWN"]);
    drop(theirs);
}

#[tokio::test]
async fn a_command_given_up_does_not_disturb_the_next() {
    let stream = server(
        GREETING,
        &[NEGOTIATED, "", "{\"return\": 1, \"id\": 1}\n{\"return\": 2, \"id\": 2}\n"],
    );
    let client = Client::start(stream, |_| {}).await.expect("start");
    tokio::select! {
        biased;
        _ = client.execute("given-up") => panic!("nobody answers it yet"),
        () = std::future::ready(()) => {}
    }
    assert_eq!(client.execute("next").await.expect("answer"), json!(2));
}

/// As QEMU does when its machine runs before its monitor's thread does.
#[tokio::test]
async fn events_may_come_before_the_greeting() {
    const EVENT_FIRST: &str = "{\"event\": \"RESUME\"}\r\n{\"QMP\": {}}\r\n";
    let (tell, mut told) = mpsc::unbounded_channel();
    let stream = server(EVENT_FIRST, &[NEGOTIATED]);
    Client::start(stream, move |event| tell.send(event).expect("heard")).await.expect("start");
    assert_eq!(told.recv().await.expect("an event").name, "RESUME");
}

#[tokio::test]
async fn what_is_no_qmp_server_is_told() {
    for (greeting, answers, part) in [
        ("HTTP/1.1 400 Bad Request\r\n", &[][..], "not a QMP message: HTTP/1.1 400"),
        ("", &[][..], "closed by the VMM"),
        (NEGOTIATED, &[][..], "no greeting"),
        (GREETING, &["{\"error\": {\"desc\": \"busy\"}}\n"][..], "qmp_capabilities failed: busy"),
        (GREETING, &["{\"return\": {}, \"id\": 4}\n"][..], "unasked for"),
    ] {
        let error = Client::start(server(greeting, answers), |_| {}).await.expect_err(greeting);
        assert!(error.to_string().contains(part), "{error}");
    }
}
