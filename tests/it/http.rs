//! The HTTP server: what goes over the wire, and when. One thread, one runtime, socket pairs, the
//! paused clock.

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;
use futures_io::{AsyncRead, AsyncWrite};
use postlude::http::{
    Body, Form, IntoResponse, Json, Limits, Path, PeerAddr, Query, Request, Response, Router, Server, State,
};
use postlude::net::{TcpStream, UnixStream};
use postlude::{Runtime, spawn, time};

/// Runs a test on the paused clock.
pub(crate) fn paused<F: Future>(test: F) -> F::Output {
    let runtime = Runtime::builder().paused_clock().build().unwrap();
    runtime.block_on(test).unwrap()
}

pub(crate) fn server(router: Router) -> Server {
    Server::bind("127.0.0.1:0", router).unwrap()
}

/// A client's end of a connection that the server serves in a task of its own.
pub(crate) fn connect(server: &Rc<Server>) -> UnixStream {
    let (client, wire) = UnixStream::pair().unwrap();
    let server = Rc::clone(server);
    drop(spawn(async move { server.serve_connection(wire).await }));
    client
}

pub(crate) async fn read_to_end(client: &UnixStream) -> String {
    let (mut all, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        match client.read(&mut buffer).await {
            Ok(0) | Err(_) => return String::from_utf8_lossy(&all).into_owned(),
            Ok(count) => all.extend_from_slice(&buffer[..count]),
        }
    }
}

/// Reads until what came ends with `end`.
pub(crate) async fn read_until(client: &UnixStream, end: &str) -> String {
    let (mut all, mut buffer) = (Vec::new(), [0; 4096]);
    while !all.ends_with(end.as_bytes()) {
        let count = client.read(&mut buffer).await.unwrap();
        assert!(count > 0, "the connection ended after {:?}", String::from_utf8_lossy(&all));
        all.extend_from_slice(&buffer[..count]);
    }
    String::from_utf8(all).unwrap()
}

/// Sends it all, ends, and gives what came back.
pub(crate) async fn exchange_with(server: Server, request: &str) -> String {
    let client = connect(&Rc::new(server));
    client.write_all(request.as_bytes()).await.unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    read_to_end(&client).await
}

fn exchange(router: Router, request: &str) -> String {
    paused(exchange_with(server(router), request))
}

pub(crate) fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n")
}

pub(crate) fn post(path: &str, fields: &str, body: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n{fields}\r\n{body}", body.len())
}

fn statuses(answers: &str) -> Vec<&str> {
    answers.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect()
}

fn plain() -> Router {
    Router::new().get("/plaintext", async || "Hello, World!")
}

/// Counts what the connection asks of its socket.
struct Counting {
    io: UnixStream,
    reads: Rc<Cell<usize>>,
    writes: Rc<Cell<usize>>,
}

impl AsyncRead for Counting {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let read = Pin::new(&mut self.io).poll_read(cx, buffer);
        self.reads.set(self.reads.get() + usize::from(read.is_ready()));
        read
    }
}

impl AsyncWrite for Counting {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.writes.set(self.writes.get() + 1);
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.writes.set(self.writes.get() + 1);
        Pin::new(&mut self.io).poll_write_vectored(cx, parts)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_close(cx)
    }
}

/// A connection whose reads and writes are counted.
fn connect_counting(router: Router) -> (UnixStream, Rc<Cell<usize>>, Rc<Cell<usize>>) {
    let (client, io) = UnixStream::pair().unwrap();
    let (reads, writes) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
    let counting = Counting { io, reads: Rc::clone(&reads), writes: Rc::clone(&writes) };
    let server = server(router);
    drop(spawn(async move { server.serve_connection(counting).await }));
    (client, reads, writes)
}

/// Pieces with a pause between them.
struct Slow {
    pieces: Vec<&'static str>,
    pause: Duration,
    sleep: Option<time::Sleep>,
}

impl Stream for Slow {
    type Item = io::Result<Vec<u8>>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.pieces.is_empty() {
            return Poll::Ready(None);
        }
        let pause = self.pause;
        let sleep = self.sleep.get_or_insert_with(|| time::sleep(pause));
        if Pin::new(sleep).poll(cx).is_pending() {
            return Poll::Pending;
        }
        self.sleep = None;
        Poll::Ready(Some(Ok(self.pieces.remove(0).as_bytes().to_vec())))
    }
}

pub(crate) fn slow(pieces: &[&'static str], pause: Duration) -> Response {
    Response::stream(Slow { pieces: pieces.to_vec(), pause, sleep: None })
}

#[test]
fn an_answer_of_known_length_says_it() {
    let answer = exchange(plain(), &get("/plaintext"));
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\ncontent-type: text/plain"), "{answer}");
    assert!(answer.contains("\r\ncontent-length: 13\r\n"), "{answer}");
    assert!(answer.contains("\r\ndate: "), "{answer}");
    assert!(answer.ends_with("\r\n\r\nHello, World!"), "{answer}");
}

#[test]
fn a_keep_alive_request_costs_one_read_and_one_write() {
    paused(async {
        let (client, reads, writes) = connect_counting(plain());
        for _ in 0..10 {
            client.write_all(get("/plaintext").as_bytes()).await.unwrap();
            read_until(&client, "World!").await;
        }
        assert_eq!((reads.get(), writes.get()), (10, 10));
    });
}

#[test]
fn pipelined_requests_are_answered_in_order_with_one_write() {
    paused(async {
        let router = Router::new().get("/{n}", async |Path(n): Path<u32>| format!("<{n}>"));
        let (client, reads, writes) = connect_counting(router);
        let requests: String = (0..20).map(|n| get(&format!("/{n}"))).collect();
        client.write_all(requests.as_bytes()).await.unwrap();
        let answers = read_until(&client, "<19>").await;
        let order: Vec<_> = answers.split('<').skip(1).map(|rest| rest.split('>').next().unwrap()).collect();
        assert_eq!(order, (0..20).map(|n| n.to_string()).collect::<Vec<_>>());
        assert_eq!((reads.get(), writes.get()), (1, 1));
    });
}

#[test]
fn answers_are_flushed_before_a_pending_handler_is_waited_for() {
    paused(async {
        let router = plain().get("/slow", async || {
            time::sleep(Duration::from_secs(5)).await;
            "slow"
        });
        let client = connect(&Rc::new(server(router)));
        let begin = time::now();
        client.write_all((get("/plaintext") + &get("/slow")).as_bytes()).await.unwrap();
        read_until(&client, "World!").await;
        assert_eq!(time::now(), begin);
        read_until(&client, "slow").await;
        assert!(time::now() - begin >= Duration::from_secs(5));
    });
}

#[test]
fn head_is_answered_like_get_without_the_body() {
    let answer = exchange(plain(), "HEAD /plaintext HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(answer.contains("content-length: 13\r\n") && answer.ends_with("\r\n\r\n"), "{answer}");
}

#[test]
fn unknown_paths_are_404_and_other_methods_405_with_allow() {
    let answers = exchange(plain(), &(get("/nothing") + &post("/plaintext", "", "")));
    assert_eq!(statuses(&answers), ["404", "405"]);
    assert!(answers.contains("allow: GET, HEAD, OPTIONS\r\n"), "{answers}");
}

#[test]
fn the_authority_is_the_target_s_and_else_that_of_host() {
    let show = async |request: Request| {
        let host = request.field("host").map(|host| String::from_utf8_lossy(host).into_owned());
        format!("{:?} {:?}", request.authority(), host.as_deref())
    };
    let cases = [
        ("GET / HTTP/1.1\r\nHost: A.example:80 ", r#"Some("A.example:80") Some("A.example:80")"#),
        ("GET http://target.example/ HTTP/1.1\r\nHost: other", r#"Some("target.example") Some("other")"#),
        ("GET https://target.example:8443?a HTTP/1.1\r\nHost:", r#"Some("target.example:8443") Some("")"#),
        ("GET HTTP://[::1]:80/ HTTP/1.0\r\nX: y", r#"Some("[::1]:80") None"#),
        ("GET / HTTP/1.1\r\nHost:", r#"Some("") Some("")"#),
        ("GET / HTTP/1.0\r\nhost: a", r#"Some("a") Some("a")"#),
        ("GET / HTTP/1.0\r\nX: y", "None None"),
    ];
    for (head, expected) in cases {
        let answer = exchange(Router::new().get("/", show), &format!("{head}\r\n\r\n"));
        assert!(answer.ends_with(&format!("\r\n\r\n{expected}")), "{head}: {answer}");
    }
}

#[test]
fn a_form_and_a_query_refuse_what_is_not_utf_8_and_a_form_invalid_escapes_too() {
    use std::collections::BTreeMap;
    type Pairs = BTreeMap<String, String>;
    let router = || {
        let form = async |Form(pairs): Form<Pairs>| format!("{pairs:?}");
        Router::new().get("/", async |Query(pairs): Query<Pairs>| format!("{pairs:?}")).post("/", form)
    };
    let form = |text: &[u8]| {
        let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-www-form-urlencoded\r\nConnection: close";
        [format!("{head}\r\nContent-Length: {}\r\n\r\n", text.len()).as_bytes(), text].concat()
    };
    let answer = |bytes: Vec<u8>| {
        paused(async {
            let client = connect(&Rc::new(server(router())));
            client.write_all(&bytes).await.unwrap();
            client.shutdown(std::net::Shutdown::Write).unwrap();
            read_to_end(&client).await
        })
    };
    let good = [
        ("", "{}"),
        ("a", r#"{"a": ""}"#),
        ("&a=1&&b=%3D%26%25%2B&", r#"{"a": "1", "b": "=&%+"}"#),
        ("%C3%A9=%f0%9F%a6%80+x", r#"{"é": "🦀 x"}"#),
        ("a=%00", r#"{"a": "\0"}"#),
    ];
    for (text, expected) in good {
        for answer in [answer(form(text.as_bytes())), answer(get(&format!("/?{text}")).into_bytes())] {
            assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with(expected), "{text}: {answer}");
        }
    }
    let refused_as = |shown: &str| format!("the form cannot be read: {shown} is not percent-encoded UTF-8");
    let loose = [
        ("a=%zz", r#""a=%zz""#, r#"{"a": "%zz"}"#),
        ("a=%", r#""a=%""#, r#"{"a": "%"}"#),
        ("a=50%&%4=%u00e9", r#""a=50%""#, r#"{"%4": "%u00e9", "a": "50%"}"#),
        ("b=1&%=%%41%4", r#""%=%%41%4""#, r#"{"%": "%A%4", "b": "1"}"#),
        ("a=%+4%c3%a9%", r#""a=%+4%c3%a9%""#, r#"{"a": "% 4é%"}"#),
        ("a=\\", "", r#"{"a": "\\"}"#),
    ];
    for (text, shown, read) in loose {
        let refused = answer(form(text.as_bytes()));
        assert!(shown.is_empty() || refused.ends_with(&refused_as(shown)), "{refused}");
        let query = answer(get(&format!("/?{text}")).into_bytes());
        assert!(query.starts_with("HTTP/1.1 200") && query.ends_with(read), "{text}: {query}");
    }
    let long = format!("a={}%ff", "é".repeat(1000));
    let bad: [(&[u8], &str); 6] = [
        (b"a=%ff", r#""a=%ff""#),
        (b"%80=1", r#""%80=1""#),
        (b"a=%C3&b=%A9", r#""a=%C3""#),
        (b"a=%ED%A0%80", r#""a=%ED%A0%80""#),
        (b"a=\xff", r#""a=\u{fffd}""#),
        (long.as_bytes(), &format!("\"a={}\"…", "é".repeat(38))),
    ];
    for (text, shown) in bad {
        let refused = answer(form(text));
        let expected = refused_as(shown).replace("\\u{fffd}", "\u{fffd}");
        assert!(refused.starts_with("HTTP/1.1 400") && refused.ends_with(&expected), "{refused}");
        // A target that is no ASCII is no request.
        let target = [b"GET /?", text, b" HTTP/1.1\r\nHost: a\r\n\r\n"].concat();
        assert!(answer(target).starts_with("HTTP/1.1 400"), "{shown}");
    }
    let refused = answer(get("/?b=1&a=%ff").into_bytes());
    assert!(refused.ends_with("the query cannot be read: \"a=%ff\" is not percent-encoded UTF-8"), "{refused}");
    let misfit = Router::new().get("/", async |Query(number): Query<BTreeMap<String, u8>>| number.len().to_string());
    assert!(exchange(misfit, &get("/?a=b")).starts_with("HTTP/1.1 400"));
}

#[test]
fn a_form_and_a_query_have_at_most_so_many_pairs() {
    type Pairs = Vec<(String, String)>;
    let app = |max_pairs| {
        let router = Router::new()
            .get("/", async |Query(pairs): Query<Pairs>| pairs.len().to_string())
            .post("/", async |Form(pairs): Form<Pairs>| pairs.len().to_string());
        server(router).limits(Limits { max_pairs, ..Limits::default() })
    };
    const FORM: &str = "Content-Type: application/x-www-form-urlencoded\r\n";
    let ask = |max_pairs, pairs: &str| {
        let answers = |request: String| paused(exchange_with(app(max_pairs), &(request + &get("/?last"))));
        let (form, query) = (answers(post("/", FORM, pairs)), answers(get(&format!("/?{pairs}"))));
        assert!(form.ends_with("\r\n\r\n1") || max_pairs == 0, "the connection goes on: {form}");
        [form, query].map(|answers| statuses(&answers)[0].to_owned())
    };
    for (max_pairs, pairs, expected) in [
        (2, "", ["200", "200"]),
        (2, "a", ["200", "200"]),
        (2, "a&b", ["200", "200"]),
        (2, "a&b&", ["200", "200"]),
        (2, "&a&", ["200", "200"]),
        (2, "a&b&c", ["413", "400"]),
        (2, "a&&b", ["413", "400"]),
        (2, "&&&", ["413", "400"]),
        (0, "", ["200", "200"]),
        (0, "a", ["413", "400"]),
        (1000, &"a&".repeat(1000), ["200", "200"]),
        (1000, &"a&".repeat(1001), ["413", "400"]),
    ] {
        assert_eq!(ask(max_pairs, pairs), expected, "{max_pairs}: {pairs:.20}");
    }
    assert_eq!(Limits::default().max_pairs, 1000);
    let refused = paused(exchange_with(app(1000), &post("/", FORM, &"a&".repeat(1_048_571))));
    assert!(refused.ends_with("the form has more than 1000 pairs; send fewer, or raise the limit"), "{refused}");
    let list = Router::new().post("/", async |Json(list): Json<Vec<u8>>| list.len().to_string());
    let body = format!("[1{}]", ",1".repeat(5000));
    assert!(exchange(list, &post("/", "Content-Type: application/json\r\n", &body)).ends_with("\r\n\r\n5001"));
}

#[test]
fn extractors_take_what_they_name_and_reject_the_rest() {
    #[derive(serde::Deserialize)]
    struct Page {
        page: Option<u8>,
    }
    let router = Router::new()
        .state(String::from("state"))
        .get("/state", async |State(text): State<String>| text)
        .get("/none", async |State(_): State<u64>| "never")
        .get("/peer", async |PeerAddr(peer): PeerAddr| peer.to_string())
        .get("/query", async |Query(page): Query<Page>| format!("{:?}", page.page))
        .post("/json", async |Json(list): Json<Vec<u8>>| Json(list.len()))
        .post("/text", async |text: String| text)
        .get("/try", async |page: Result<Query<Page>, postlude::http::Rejection>| page.is_err().to_string());
    let json = "Content-Type: application/json; charset=utf-8\r\n";
    let requests = [
        (get("/state"), "200"),
        (get("/none"), "500"),
        (get("/peer"), "500"),
        (get("/query?page=7"), "200"),
        (get("/query"), "200"),
        (get("/query?page=x"), "400"),
        (get("/try?page=x"), "200"),
        (post("/json", json, "[1,2]"), "200"),
        (post("/json", "", "[1,2]"), "415"),
        (post("/json", json, "[1,"), "400"),
        (post("/json", json, "[300]"), "422"),
        (post("/text", "", "é"), "200"),
    ];
    let sent: String = requests.iter().map(|(request, _)| request.as_str()).collect();
    let answers = exchange(router, &sent);
    let expected: Vec<_> = requests.iter().map(|(_, status)| *status).collect();
    assert_eq!(statuses(&answers), expected, "{answers}");
    assert!(answers.contains("Some(7)") && answers.contains("None") && answers.contains("true"), "{answers}");
}

#[test]
fn path_parameters_are_decoded_and_go_by_order_or_by_name() {
    #[derive(serde::Deserialize)]
    struct Place {
        rest: String,
        user: String,
    }
    let router = Router::new()
        .get("/one/{name}", async |Path(name): Path<String>| name)
        .get("/two/{year}/{month}", async |Path((year, month)): Path<(u16, u8)>| format!("{year}/{month}"))
        .get("/files/{user}/{*rest}", async |Path(place): Path<Place>| format!("{}: {}", place.user, place.rest));
    let paths = ["/one/a%2Fb%20%C3%A9", "/two/2024/2", "/files/ada/a/b%25", "/two/2024/x", "/one/%FF", "/one/"];
    let answers = exchange(router, &paths.map(get).concat());
    assert_eq!(statuses(&answers), ["200", "200", "200", "400", "400", "404"], "{answers}");
    for text in ["\r\na/b é", "\r\n2024/2", "\r\nada: a/b%"] {
        assert!(answers.contains(text), "{text} is not in {answers}");
    }
}

#[test]
fn a_client_that_pipelines_and_never_reads_is_held_back() {
    let calls = Rc::new(Cell::new(0));
    let count = Rc::clone(&calls);
    let router = Router::new().get("/", async move || {
        count.set(count.get() + 1);
        vec![b'x'; 10_000]
    });
    paused(async {
        let client = Rc::new(connect(&Rc::new(server(router))));
        let writer = Rc::clone(&client);
        let flood = spawn(async move { writer.write_all(get("/").repeat(100_000).as_bytes()).await });
        time::sleep(Duration::from_secs(5)).await;
        assert!(calls.get() < 1000, "{} answers wait for a client that reads none", calls.get());
        flood.abort();
    });
}

#[test]
fn a_chunked_body_goes_through_as_a_stream() {
    let router = Router::new().post("/echo", async |body: Body| Response::stream(body));
    let request =
        "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n";
    let answer = exchange(router, &(request.to_owned() + request));
    assert_eq!(statuses(&answer), ["200", "200"], "{answer}");
    assert!(answer.contains("transfer-encoding: chunked\r\n"), "{answer}");
    assert!(answer.ends_with("b\r\nhello world\r\n0\r\n\r\n"), "{answer}");
}

#[test]
fn the_answers_do_not_depend_on_how_the_bytes_arrive() {
    let router =
        || plain().post("/echo", async |body: Vec<u8>| body).post("/stream", async |body: Body| Response::stream(body));
    let chunked = "HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    let sent =
        get("/plaintext") + &post("/echo", "", "12345") + &format!("POST /stream {chunked}") + &get("/plaintext");
    paused(async {
        let server = Rc::new(server(router()));
        for cut in 1..sent.len() {
            let client = connect(&server);
            client.write_all(&sent.as_bytes()[..cut]).await.unwrap();
            time::sleep(Duration::from_millis(10)).await;
            client.write_all(&sent.as_bytes()[cut..]).await.unwrap();
            client.shutdown(std::net::Shutdown::Write).unwrap();
            let answers = read_to_end(&client).await;
            assert_eq!(statuses(&answers), ["200"; 4], "cut at {cut}: {answers}");
            assert!(answers.contains("\r\n\r\n12345HTTP"), "cut at {cut}: {answers}");
        }
    });
}

#[test]
fn a_server_that_is_dropped_closes_its_idle_connections_and_its_port() {
    paused(async {
        let server = server(plain());
        let address = server.local_addr().unwrap();
        let running = spawn(server.run());
        let client = TcpStream::connect(address).await.unwrap();
        client.write_all(get("/plaintext").as_bytes()).await.unwrap();
        let mut buffer = [0; 4096];
        assert!(client.read(&mut buffer).await.unwrap() > 0);
        let begin = time::now();
        running.abort();
        assert!(running.await.is_err());
        assert_eq!(client.read(&mut buffer).await.unwrap(), 0);
        assert_eq!(time::now(), begin);
        assert!(TcpStream::connect(address).await.is_err());
    });
}

#[test]
fn a_stream_s_pieces_go_out_as_they_come() {
    paused(async {
        let router = Router::new().get("/", async || slow(&["one", "two"], Duration::from_secs(5)));
        let client = connect(&Rc::new(server(router)));
        client.write_all(get("/").as_bytes()).await.unwrap();
        let begin = time::now();
        read_until(&client, "3\r\none\r\n").await;
        assert!(time::now() - begin < Duration::from_secs(9));
        read_until(&client, "3\r\ntwo\r\n0\r\n\r\n").await;
        assert!(time::now() - begin >= Duration::from_secs(10));
    });
}

#[test]
fn http_1_0_closes_unless_asked_and_gets_no_chunks() {
    let router = plain().get("/stream", async || slow(&["one", "two"], Duration::ZERO));
    let keep = "GET /plaintext HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
    let answers = exchange(router, &(keep.to_owned() + "GET /stream HTTP/1.0\r\n\r\nGET /plaintext HTTP/1.0\r\n\r\n"));
    assert_eq!(statuses(&answers), ["200", "200"], "{answers}");
    assert!(answers.contains("connection: keep-alive\r\n") && answers.contains("connection: close\r\n"), "{answers}");
    assert!(answers.ends_with("\r\n\r\nonetwo"), "{answers}");
}

#[test]
fn connection_close_is_the_last_request() {
    let request = "GET /plaintext HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let answers = exchange(plain(), &(request.to_owned() + &get("/plaintext")));
    assert_eq!(statuses(&answers), ["200"]);
    assert!(answers.contains("connection: close\r\n"), "{answers}");
}

#[test]
fn a_body_beyond_the_limit_is_413() {
    let echo = || {
        server(Router::new().post("/", async |body: Vec<u8>| body)).limits(Limits { max_body: 8, ..Limits::default() })
    };
    let declared = paused(exchange_with(echo(), &post("/", "", "123456789")));
    assert_eq!(statuses(&declared), ["413"]);
    let chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n123456789\r\n0\r\n\r\n";
    assert_eq!(statuses(&paused(exchange_with(echo(), chunked))), ["413"]);
    assert_eq!(statuses(&paused(exchange_with(echo(), &post("/", "", "12345678")))), ["200"]);
}

#[test]
fn continue_is_said_when_the_body_is_asked_for_and_not_before() {
    let router = || Router::new().post("/read", async |body: String| body).post("/leave", async || "left");
    paused(async {
        let client = connect(&Rc::new(server(router())));
        let head = "POST /read HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n";
        client.write_all(head.as_bytes()).await.unwrap();
        assert_eq!(read_until(&client, "\r\n\r\n").await, "HTTP/1.1 100 Continue\r\n\r\n");
        client.write_all(b"hello").await.unwrap();
        assert!(read_until(&client, "hello").await.starts_with("HTTP/1.1 200"));
        client.write_all(head.replace("/read", "/leave").as_bytes()).await.unwrap();
        let answer = read_to_end(&client).await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("connection: close"), "{answer}");
    });
}

#[test]
fn time_limits_end_what_stands_still() {
    paused(async {
        let seconds = Duration::from_secs;
        let limits = Limits {
            header_timeout: seconds(1),
            body_timeout: seconds(2),
            idle_timeout: seconds(3),
            ..Limits::default()
        };
        let limits = |server: Server| Rc::new(server.limits(limits.clone()));
        let server = limits(server(plain().post("/", async |body: Vec<u8>| body)));
        let lasted = async |bytes: &str| {
            let client = connect(&server);
            client.write_all(bytes.as_bytes()).await.unwrap();
            let begin = time::now();
            let answer = read_to_end(&client).await;
            (statuses(&answer).join(" "), (time::now() - begin).as_secs())
        };
        assert_eq!(lasted("").await, (String::new(), 3));
        assert_eq!(lasted("GET /").await, (String::from("408"), 1));
        assert_eq!(lasted(&get("/plaintext")).await, (String::from("200"), 3));
        assert_eq!(lasted("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhe").await, (String::from("408"), 2));
    });
}

#[test]
fn a_panicking_handler_is_a_500_and_the_connection_goes_on() {
    let router = plain().get("/panic", async || if true { panic!("on purpose") } else { "never" });
    let answers = exchange(router, &(get("/panic") + &get("/plaintext")));
    assert_eq!(statuses(&answers), ["500", "200"]);
}

#[test]
fn what_is_no_request_is_refused_and_the_connection_ends() {
    let answers = exchange(plain(), &("NONSENSE\r\n\r\n".to_owned() + &get("/plaintext")));
    assert_eq!(statuses(&answers), ["400"]);
    assert!(answers.contains("connection: close\r\n"), "{answers}");
}

#[test]
fn a_little_body_left_unread_is_thrown_away_and_a_big_one_ends_the_connection() {
    let router = || plain().post("/", async || "left");
    let little = post("/", "", &"x".repeat(60_000)) + &get("/plaintext");
    let big = post("/", "", &"x".repeat(70_000)) + &get("/plaintext");
    paused(async {
        for (request, expected) in [(little, vec!["200", "200"]), (big, vec!["200"])] {
            let client = Rc::new(connect(&Rc::new(server(router()))));
            let writer = Rc::clone(&client);
            let writing = spawn(async move {
                let _ = writer.write_all(request.as_bytes()).await;
                let _ = writer.shutdown(std::net::Shutdown::Write);
            });
            let answers = read_to_end(&client).await;
            writing.await.unwrap();
            assert_eq!(statuses(&answers), expected, "{answers}");
        }
    });
}

#[test]
fn a_big_body_arrives_whole_over_tcp() {
    postlude::run(async {
        let server =
            server(Router::new().post("/echo", async |body: Vec<u8>| body)).shutdown_on(std::future::pending());
        let address = server.local_addr().unwrap();
        let running = spawn(server.run());
        let sent: Vec<u8> = (0..1_048_576_u32).map(|n| (n % 251) as u8).collect();
        let client = Rc::new(TcpStream::connect(address).await.unwrap());
        let (writer, copy) = (Rc::clone(&client), sent.clone());
        drop(spawn(async move {
            let head = format!("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", copy.len());
            writer.write_all(head.as_bytes()).await.unwrap();
            writer.write_all(&copy).await.unwrap();
        }));
        let (mut got, mut buffer) = (Vec::new(), vec![0; 65536]);
        while !got.ends_with(&sent[sent.len() - 100..]) {
            let count = client.read(&mut buffer).await.unwrap();
            assert!(count > 0, "ended after {} bytes", got.len());
            got.extend_from_slice(&buffer[..count]);
        }
        let head = got.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap() + 4;
        assert!(got[head..] == sent[..]);
        running.abort();
    })
    .unwrap();
}

#[test]
fn stopping_closes_idle_connections_at_once_and_finishes_answers() {
    paused(async {
        let router = plain().get("/slow", async || {
            time::sleep(Duration::from_secs(5)).await;
            "slow"
        });
        let server = server(router).shutdown_on(time::sleep(Duration::from_secs(1)));
        let address = server.local_addr().unwrap();
        let running = spawn(server.run());
        let (idle, busy) = (TcpStream::connect(address).await.unwrap(), TcpStream::connect(address).await.unwrap());
        idle.write_all(get("/plaintext").as_bytes()).await.unwrap();
        busy.write_all(get("/slow").as_bytes()).await.unwrap();
        let begin = time::now();
        let mut buffer = [0; 4096];
        while idle.read(&mut buffer).await.unwrap() > 0 {}
        assert_eq!((time::now() - begin).as_secs(), 1);
        let count = busy.read(&mut buffer).await.unwrap();
        let answer = String::from_utf8_lossy(&buffer[..count]).into_owned();
        assert!(answer.ends_with("slow") && answer.contains("connection: close"), "{answer}");
        drop(busy);
        let report = running.await.unwrap().unwrap();
        assert_eq!((report.connections_cut, report.unfinished.len()), (0, 0));
        assert_eq!((time::now() - begin).as_secs(), 5);
    });
}

#[test]
fn connections_beyond_the_limit_wait_while_the_others_are_busy() {
    paused(async {
        let slow = async || {
            time::sleep(Duration::from_secs(5)).await;
            "slow"
        };
        let server = server(Router::new().get("/", slow))
            .limits(Limits { max_connections: 1, ..Limits::default() })
            .shutdown_on(std::future::pending());
        let address = server.local_addr().unwrap();
        let running = spawn(server.run());
        let (first, second) = (TcpStream::connect(address).await.unwrap(), TcpStream::connect(address).await.unwrap());
        let mut buffer = [0; 4096];
        for stream in [&first, &second] {
            stream.write_all(get("/").as_bytes()).await.unwrap();
        }
        let begin = time::now();
        assert!(first.read(&mut buffer).await.unwrap() > 0);
        assert!(second.read(&mut buffer).await.unwrap() > 0);
        assert_eq!((time::now() - begin).as_secs(), 10);
        running.abort();
    });
}

#[test]
fn clients_who_hang_up_leave_room_for_others() {
    paused(async {
        let server = server(plain())
            .limits(Limits { max_connections: 10, ..Limits::default() })
            .shutdown_on(std::future::pending());
        let address = server.local_addr().unwrap();
        let running = spawn(server.run());
        let mut buffer = [0; 4096];
        for _ in 0..3 {
            let mut clients = Vec::new();
            for _ in 0..10 {
                let client = TcpStream::connect(address).await.unwrap();
                client.write_all(get("/plaintext").as_bytes()).await.unwrap();
                assert!(client.read(&mut buffer).await.unwrap() > 0);
                clients.push(client);
            }
        }
        running.abort();
    });
}

#[test]
fn an_answer_that_has_no_content_by_its_status_has_none() {
    let router = Router::new()
        .get("/reset", async || Response::new(205).with_body("hello"))
        .get("/stream", async || Response::stream(futures::stream::iter([Ok(b"hello".to_vec())])).with_status(205))
        .get("/none", async || Response::new(204).with_body("hello"));
    let answers = exchange(router, &(get("/reset") + &get("/stream") + &get("/none")));
    assert_eq!(statuses(&answers), ["205", "205", "204"]);
    assert_eq!(answers.matches("content-length: 0\r\n").count(), 2, "{answers}");
    assert!(!answers.contains("hello") && !answers.contains("chunked"), "{answers}");
}

#[test]
fn what_is_no_request_and_asks_for_no_content_gets_none() {
    for head in ["HEAD / HTTP/1.1\r\n\r\n", "HEAD / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n"] {
        let answer = exchange(plain(), head);
        assert!(answer.starts_with("HTTP/1.1 400 ") && answer.ends_with("\r\n\r\n"), "{answer}");
        let answer = exchange(plain(), &head.replace("HEAD", "GET"));
        assert!(answer.starts_with("HTTP/1.1 400 ") && !answer.ends_with("\r\n\r\n"), "{answer}");
    }
}

#[test]
fn a_client_that_waits_for_continue_and_gets_an_answer_without_content_is_told_that_it_was_the_last() {
    let stream = || Response::stream(futures::stream::iter([Ok(b"hello".to_vec())]));
    for method in ["HEAD", "POST"] {
        let request = format!("{method} / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 60\r\n\r\n");
        let answer = paused(async {
            let app = Router::new().get("/", async move || stream()).post("/", async move || stream().with_status(204));
            let client = connect(&Rc::new(server(app)));
            client.write_all(request.as_bytes()).await.unwrap();
            read_to_end(&client).await
        });
        assert!(answer.contains("connection: close\r\n") && !answer.contains(" 100 "), "{answer}");
    }
}

#[test]
fn the_body_may_be_read_by_another_task() {
    let got = Rc::new(RefCell::new(None));
    let keep = Rc::clone(&got);
    let router = Router::new().post("/", async move |mut body: Body| {
        let reading = spawn(async move { body.collect().await });
        let bytes = reading.await.unwrap();
        *keep.borrow_mut() = bytes.ok();
        Response::new(204).into_response()
    });
    let request = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    let answer = exchange(router, request);
    assert_eq!(statuses(&answer), ["204"]);
    assert!(!answer.contains("content-length"), "{answer}");
    assert_eq!(got.borrow().as_deref(), Some(&b"abc"[..]));
}

#[test]
fn continue_is_said_before_a_stream_that_reads_the_body() {
    let router = Router::new().post("/echo", async |body: Body| Response::stream(body));
    paused(async {
        let client = connect(&Rc::new(server(router)));
        let head = "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n";
        client.write_all(head.as_bytes()).await.unwrap();
        let interim = read_until(&client, "\r\n\r\n").await;
        client.write_all(b"body").await.unwrap();
        let all = interim + &read_until(&client, "0\r\n\r\n").await;
        assert!(all.starts_with("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n"), "{all}");
        assert!(all.ends_with("\r\n\r\n4\r\nbody\r\n0\r\n\r\n"), "{all}");
    });
}

#[test]
fn a_body_that_another_task_reads_ends_with_its_connection() {
    let (done, end) = futures::channel::oneshot::channel();
    let done = Rc::new(std::cell::RefCell::new(Some(done)));
    let router = Router::new().post("/", async move |mut body: Body| {
        let done = done.borrow_mut().take().unwrap();
        drop(postlude::spawn(async move {
            let failed = body.next().await.is_some_and(|piece| piece.is_err());
            done.send(failed).unwrap();
        }));
        Response::new(200).with_field("connection", "close")
    });
    paused(async {
        let client = connect(&Rc::new(server(router)));
        client.write_all(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n").await.unwrap();
        let ended = time::timeout(Duration::from_secs(1000), end).await.expect("the reader is woken");
        assert!(ended.unwrap(), "a body that did not come whole is an error");
    });
}

/// A client that has sent all it sends, and a wire that takes everything at once.
struct Greedy {
    sent: io::Cursor<Vec<u8>>,
    taken: Rc<RefCell<Vec<u8>>>,
}

impl AsyncRead for Greedy {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(io::Read::read(&mut self.sent, buffer))
    }
}

impl AsyncWrite for Greedy {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.taken.borrow_mut().extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        parts.iter().for_each(|part| self.taken.borrow_mut().extend_from_slice(part));
        Poll::Ready(Ok(parts.iter().map(|part| part.len()).sum()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[test]
fn a_big_body_follows_all_that_waits_however_much_that_is() {
    let router = Router::new()
        .get("/small/{n}", async |Path(n): Path<u8>| vec![n; 16 * 1024])
        .get("/big", async || vec![b'x'; 100 * 1024]);
    let numbers: Vec<u8> = (b'a'..b'x').cycle().take(100).collect();
    let requests: String = numbers.iter().map(|n| get(&format!("/small/{n}"))).chain([get("/big")]).collect();
    let taken = Rc::new(RefCell::new(Vec::new()));
    paused(async {
        let server = server(router).limits(Limits { max_buffer: 64 << 20, ..Limits::default() });
        server
            .serve_connection(Greedy { sent: io::Cursor::new(requests.into_bytes()), taken: Rc::clone(&taken) })
            .await;
    });
    let answers = String::from_utf8(taken.take()).unwrap();
    let bodies: String = answers
        .split("HTTP/1.1 200 OK")
        .filter_map(|answer| answer.split_once("\r\n\r\n"))
        .map(|(_, body)| body)
        .collect();
    let expected: Vec<u8> = numbers.iter().flat_map(|&n| vec![n; 16 * 1024]).chain(vec![b'x'; 100 * 1024]).collect();
    assert!(bodies.as_bytes() == expected, "{} bytes in place of {}", bodies.len(), expected.len());
}
