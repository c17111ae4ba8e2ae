//! Routes and groups of them: nesting, merging, fallbacks, limits, state, what layers leave in a
//! request, and the answers nobody wrote.

use std::cell::{Cell, RefCell};
use std::fmt::Debug;
use std::rc::Rc;
use std::time::Duration;

use postlude::http::{
    Error, Extension, Next, Path, Request, Response, Router, State, StatusCode, endpoint, middleware,
};
use postlude::time::sleep;
use serde::de::DeserializeOwned;

use crate::http::{exchange_with, get, paused, post, server};

fn exchange(router: Router, request: &str) -> String {
    paused(exchange_with(server(router), request))
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").unwrap().1
}

fn status(answer: &str) -> &str {
    &answer[9..12]
}

#[test]
fn a_nested_handler_sees_the_parameters_of_the_prefix() {
    let inner =
        Router::new().get("/posts/{post}", async |Path((user, post)): Path<(String, u32)>| format!("{user} {post}"));
    let answer = exchange(Router::new().nest("/users/{user}", inner), &get("/users/ann/posts/7"));
    assert_eq!(body(&answer), "ann 7");
}

#[test]
fn a_group_s_state_goes_before_that_of_the_router_around_it() {
    let read = async |State(number): State<u32>, State(text): State<&'static str>| format!("{number} {text}");
    let app = || {
        Router::new().state(1_u32).state("outer").get("/", read).nest("/in", Router::new().state(2_u32).get("/", read))
    };
    assert_eq!(body(&exchange(app(), &get("/"))), "1 outer");
    assert_eq!(body(&exchange(app(), &get("/in/"))), "2 outer");
}

#[test]
fn the_fallback_of_the_longest_prefix_answers() {
    let inner = Router::new().get("/a", async || "a").fallback(async || (StatusCode::NOT_FOUND, "inner"));
    let app = || Router::new();
    let app = |inner| app().nest("/in", inner).fallback(async || "outer");
    let router = app(inner);
    let answers = exchange(router, &(get("/in/x") + &get("/inx") + &get("/in/a")));
    let bodies: Vec<_> = answers.split("HTTP/1.1 ").skip(1).map(body).collect();
    assert_eq!(bodies, ["inner", "outer", "a"]);
}

#[test]
fn a_trailing_slash_is_another_path() {
    let app = || Router::new().get("/a", async || "a");
    assert_eq!(status(&exchange(app(), &get("/a"))), "200");
    assert_eq!(status(&exchange(app(), &get("/a/"))), "404");
}

#[test]
fn no_trailing_slash_is_added_or_taken_away_with_parameters_and_below_prefixes() {
    let app = || {
        let inner = Router::new().get("/", async || "front").get("/b/", async || "with");
        Router::new().nest("/in", inner).get("/p/{name}", async || "name").get("/r/{*rest}", async || "rest")
    };
    let cases = [
        ("/in/", "200"),
        ("/in", "404"),
        ("/in/b/", "200"),
        ("/in/b", "404"),
        ("/p/x", "200"),
        ("/p/x/", "404"),
        ("/p/", "404"),
        ("/r/x/", "200"),
        ("/r/", "404"),
        ("/r", "404"),
    ];
    for (path, expected) in cases {
        assert_eq!(status(&exchange(app(), &get(path))), expected, "{path}");
    }
}

fn options(path: &str) -> String {
    format!("OPTIONS {path} HTTP/1.1\r\nHost: a\r\n\r\n")
}

fn allow(answer: &str) -> Option<&str> {
    answer.split("\r\n").find_map(|line| line.strip_prefix("allow: "))
}

#[test]
fn options_are_answered_where_nobody_else_does() {
    let app = || {
        Router::new()
            .get("/a", async || "")
            .post("/a", async || "")
            .put("/b", async || "")
            .route("OPTIONS", "/own", async || "mine")
            .merge(Router::new().delete("/c", async || ""))
    };
    let of = |path| exchange(app(), &options(path));
    let cases = [
        ("/a", "204", Some("GET, POST, HEAD, OPTIONS")),
        ("/b", "204", Some("PUT, OPTIONS")),
        ("/own", "200", None),
        ("/none", "404", None),
        ("*", "204", Some("GET, POST, PUT, OPTIONS, DELETE, HEAD")),
    ];
    for (path, expected, allowed) in cases {
        let answer = of(path);
        assert_eq!((status(&answer), allow(&answer)), (expected, allowed), "{path}");
        assert!(expected != "204" || !answer.contains("content-length"), "{answer}");
    }
    let refused = exchange(app(), &post("/own", "", ""));
    assert_eq!((status(&refused), allow(&refused)), ("405", Some("OPTIONS")));
}

#[test]
fn layers_see_options_and_a_fallback_takes_them() {
    let layer = async |request: Request, next: Next| next.run(request).await.with_field("x-seen", "yes");
    let app = || Router::new().get("/", async || "").with(layer);
    for path in ["/", "*"] {
        let answer = exchange(app(), &options(path));
        assert!(answer.starts_with("HTTP/1.1 204") && answer.contains("x-seen: yes"), "{answer}");
    }
    let fallback = || app().fallback(async || "fallback");
    assert_eq!(body(&exchange(fallback(), &options("/none"))), "fallback");
    assert_eq!(status(&exchange(fallback(), &options("*"))), "204");
}

#[test]
fn one_route_has_limits_state_and_layers_of_its_own() {
    let read = async |State(text): State<&'static str>, body: String| format!("{text} {body}");
    let mark = |mark: &'static str| {
        async move |request: Request, next: Next| next.run(request).await.with_field("x-mark", mark)
    };
    let app = || {
        let own = endpoint(read).max_body(8).state("own").with(mark("first")).with(mark("second"));
        Router::new().max_body(4).state("group").post("/", read).put("/", own).with(mark("group"))
    };
    let put = |body: &str| post("/", "", body).replacen("POST", "PUT", 1);
    assert_eq!(body(&exchange(app(), &post("/", "", "1234"))), "group 1234");
    assert_eq!(status(&exchange(app(), &post("/", "", "12345"))), "413");
    assert_eq!(status(&exchange(app(), &put("123456789"))), "413");
    let answer = exchange(app(), &put("12345678"));
    assert_eq!(body(&answer), "own 12345678");
    let marks: Vec<_> = answer.split("x-mark: ").skip(1).map(|rest| rest.split("\r\n").next().unwrap()).collect();
    assert_eq!(marks, ["second", "first", "group"], "a layer adds its field on the way out");
}

#[test]
fn one_route_has_a_time_limit_of_its_own() {
    let wait = |seconds| async move || sleep(Duration::from_secs(seconds)).await;
    let app = || {
        let limited = |seconds| endpoint(wait(seconds)).timeout(Duration::from_secs(5));
        Router::new().get("/short", limited(4)).get("/long", limited(6)).get("/free", wait(60))
    };
    for (path, expected) in [("/short", "200"), ("/long", "503"), ("/free", "200")] {
        assert_eq!(status(&exchange(app(), &get(path))), expected, "{path}");
    }
}

#[test]
fn a_handler_finds_what_a_layer_left_and_the_next_request_does_not() {
    let app = || {
        let read = async |user: Result<Extension<Rc<str>>, _>| user.map_or(Rc::from("none"), |user| user.0).to_string();
        Router::new().get("/", read).get("/none", async |Extension(_): Extension<u32>| "never").with(
            async |mut request: Request, next: Next| {
                if let Some(user) = request.field("x-user") {
                    let user: Rc<str> = String::from_utf8_lossy(user).into();
                    request.extensions_mut().insert(user);
                }
                next.run(request).await
            },
        )
    };
    let named = "GET / HTTP/1.1\r\nHost: a\r\nX-User: ann\r\n\r\n";
    let answers = exchange(app(), &(named.to_owned() + &get("/")));
    let bodies: Vec<_> = answers.split("HTTP/1.1 ").skip(1).map(body).collect();
    assert_eq!(bodies, ["ann", "none"]);
    let missing = exchange(app(), &get("/none"));
    assert_eq!(status(&missing), "500");
    assert!(body(&missing).contains("no layer has put a u32 into the request"), "{missing}");
}

#[test]
fn a_group_has_its_own_body_limit() {
    let echo = async |text: String| text;
    let app = || Router::new().max_body(4).post("/", echo).merge(Router::new().max_body(8).post("/more", echo));
    assert_eq!(status(&exchange(app(), &post("/", "", "12345"))), "413");
    assert_eq!(body(&exchange(app(), &post("/more", "", "12345"))), "12345");
    assert_eq!(status(&exchange(app(), &post("/more", "", "123456789"))), "413");
}

#[test]
#[should_panic(expected = "\"/a/b\" cannot be routed")]
fn a_path_that_is_there_already_cannot_be_nested() {
    let _ = Router::new().get("/a/b", async || "").nest("/a", Router::new().get("/b", async || ""));
}

#[test]
fn the_first_layer_is_the_outermost_and_the_router_s_are_around_the_group_s() {
    let log = Rc::new(RefCell::new(Vec::new()));
    let layer = |name: &'static str| {
        let log = Rc::clone(&log);
        async move |request: Request, next: Next| {
            log.borrow_mut().push(name);
            next.run(request).await
        }
    };
    let inner = Router::new().with(layer("third")).get("/", async || "");
    let app = Router::new().with(layer("first")).nest("/in", inner).with(layer("second"));
    exchange(app, &get("/in/"));
    assert_eq!(*log.borrow(), ["first", "second", "third"]);
}

#[test]
fn layers_see_what_has_no_handler() {
    let layer = async |request: Request, next: Next| next.run(request).await.with_field("x-seen", "yes");
    let app = || Router::new().get("/", async || "").with(layer);
    for request in [get("/none"), post("/", "", "")] {
        assert!(exchange(app(), &request).contains("x-seen: yes"));
    }
}

#[test]
fn a_layer_answers_instead_of_the_handler() {
    let app = Router::new().get("/", async || "never").with(async |_: Request, _: Next| Response::new(401));
    assert_eq!(status(&exchange(app, &get("/"))), "401");
}

#[test]
fn a_layer_s_background_task_runs_and_not_after_a_failed_handler() {
    for (fails, runs) in [(false, 1), (true, 0)] {
        let ran = Rc::new(Cell::new(0));
        let count = Rc::clone(&ran);
        let handler = async move || if fails { Err(Error::new(400, "no")) } else { Ok("yes") };
        let app = Router::new().get("/", handler).with(async move |request: Request, next: Next| {
            let count = Rc::clone(&count);
            next.run(request).await.background(async move { count.set(count.get() + 1) })
        });
        paused(async {
            exchange_with(server(app), &get("/")).await;
            sleep(Duration::from_millis(1)).await;
        });
        assert_eq!(ran.get(), runs);
    }
}

#[test]
fn merged_routers_with_layers_and_no_fallback_leave_what_is_not_found_to_the_router_they_are_in() {
    let marked = |path: &str, mark: &'static str| {
        let router = Router::new().get(path, async || "found");
        router.with(async move |request: Request, next: Next| next.run(request).await.with_field("x-mark", mark))
    };
    let app = || marked("/", "outer").merge(marked("/a", "a")).merge(marked("/b", "b"));
    let marks = |path| exchange(app(), &get(path)).matches("x-mark: ").count();
    assert_eq!((marks("/"), marks("/a"), marks("/b")), (1, 2, 2));
    let missing = exchange(app(), &get("/c"));
    assert_eq!((status(&missing), missing.contains("x-mark: outer"), marks("/c")), ("404", true, 1));
}

const CONNECT: &str = "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n";

#[test]
fn connect_is_refused_whatever_handlers_fallbacks_and_layers_there_are() {
    let own = || Router::new().get("/", async || "own").get("/{*rest}", async || "rest");
    let group = || Router::new().fallback(async || "inner").with(middleware::request_id());
    let log = Rc::new(Cell::new(0));
    let count = Rc::clone(&log);
    let logged = middleware::access_log(move |_| count.set(count.get() + 1));
    let mark = async |request: Request, next: Next| next.run(request).await.with_field("x-seen", "yes");
    let routers = [
        (own(), false),
        (own().fallback(async || "tunnel"), false),
        (own().nest("/in", group()).nest("/{x}", group()), false),
        (own().merge(Router::new().fallback(async || "merged")), false),
        (own().fallback(async || "tunnel").nest("/in", group()).with(mark), true),
        (own().with(mark), true),
        (own().with(logged).with(mark), true),
    ];
    for (number, (router, seen)) in routers.into_iter().enumerate() {
        let answer = exchange(router, &(CONNECT.to_owned() + &get("/")));
        assert!(answer.starts_with("HTTP/1.1 501 ") && answer.contains("connection: close\r\n"), "{number}: {answer}");
        assert!(body(&answer).starts_with("this server opens no tunnels"), "{number}: {answer}");
        assert_eq!((answer.matches("HTTP/1.1 ").count(), answer.contains("x-seen")), (1, seen), "{number}: {answer}");
    }
    assert_eq!(log.get(), 1);
}

#[test]
fn nothing_behind_a_connect_is_a_request_whatever_a_layer_makes_of_the_refusal() {
    let layer = async |_: Request, _: Next| Response::new(403);
    let answer = exchange(Router::new().get("/", async || "").with(layer), &(CONNECT.to_owned() + &get("/")));
    assert!(answer.starts_with("HTTP/1.1 403 ") && answer.contains("connection: close\r\n"), "{answer}");
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
}

#[test]
#[should_panic(expected = "CONNECT /a cannot be routed: a router opens no tunnels")]
fn connect_has_no_handler() {
    let _ = Router::new().route("CONNECT", "/a", async || "");
}

#[test]
fn a_nested_fallback_and_its_layers_hold_below_every_kind_of_prefix_and_nowhere_else() {
    let mark = async |request: Request, next: Next| next.run(request).await.with_field("x-seen", "yes");
    let app = |prefix: &str| {
        let inner = Router::new().get("/a", async || "a").fallback(async || "inner").with(mark);
        Router::new().fallback(async || "outer").nest(prefix, inner)
    };
    let cases: [(&str, &[&str], &[&str]); 7] = [
        ("/in", &["/in"], &["/inn", "/n", "/"]),
        ("/{n}", &["/in", "/x"], &["/"]),
        ("/v{n}", &["/v1", "/v10"], &["/v", "/w1", "/"]),
        ("/{n}.d", &["/1.d", "/a.d.d"], &["/.d", "/other", "/1.e"]),
        ("/v{n}.d", &["/v1.d"], &["/v.d", "/v1", "/1.d"]),
        ("/{{x}}", &["/{x}"], &["/other", "/x"]),
        ("/v{n}/in/{{{m}", &["/v1/in/{2"], &["/v1/in", "/v1/on/{2", "/v1/in/2"]),
    ];
    for (prefix, below, elsewhere) in cases {
        let below = below.iter().map(|path| (*path, true)).chain(elsewhere.iter().map(|path| (*path, false)));
        for (path, is_below) in below {
            for (end, expected) in [("", "inner"), ("/", "inner"), ("/zzz", "inner"), ("/a/b", "inner"), ("/a", "a")] {
                let answer = exchange(app(prefix), &get(&format!("{path}{end}")));
                let expected = if is_below { expected } else { "outer" };
                let got = (body(&answer), answer.contains("x-seen"));
                assert_eq!(got, (expected, is_below), "{prefix}: {path}{end}");
            }
        }
    }
}

#[test]
fn of_two_groups_that_fit_the_one_that_says_more_answers() {
    let group = |name: &'static str| Router::new().fallback(async move || name);
    let app = || {
        let app = Router::new().nest("/{a_long_name}", group("any")).nest("/a", group("a")).nest("/v{n}", group("v"));
        app.nest("/{a}/deep", group("deep"))
    };
    for (path, expected) in
        [("/x/y", "any"), ("/a/y", "a"), ("/v1/y", "v"), ("/a/deep/y", "deep"), ("/v1/deep", "deep")]
    {
        assert_eq!(body(&exchange(app(), &get(path))), expected, "{path}");
    }
}

#[test]
fn a_prefix_that_is_malformed_or_has_a_fallback_is_refused() {
    let group = || Router::new().fallback(async || "");
    let text = |build: &dyn Fn() -> Router| {
        let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(build)).unwrap_err();
        *panic.downcast::<String>().unwrap()
    };
    for prefix in ["/{*rest}", "/{", "/}", "/{}", "/{a}{b}", "/{a*}"] {
        let text = text(&|| Router::new().nest(prefix, group()));
        assert!(text.starts_with(&format!("the prefix {prefix:?} cannot be routed: ")), "{text}");
    }
    let twice = text(&|| Router::new().nest("/v{a}", group()).nest("/v{b}", group()));
    assert_eq!(twice, "/v{b}/ has a fallback already");
}

/// The answer to a request for `path`, whose handler shows the parameters of `route` as a `T`.
fn parameters<T: DeserializeOwned + Debug + 'static>(route: &str, path: &str) -> String {
    let router = Router::new().get(route, async |Path(value): Path<T>| format!("{value:?}"));
    exchange(router, &get(path))
}

#[test]
fn a_single_parameter_is_decoded() {
    assert_eq!(body(&parameters::<String>("/{name}", "/a%2Fb%20%C3%A9+c")), r#""a/b é+c""#);
    assert_eq!(body(&parameters::<u64>("/{id}", "/42")), "42");
    assert_eq!(body(&parameters::<(String,)>("/{id}", "/%34")), r#"("4",)"#);
}

#[test]
fn an_invalid_escape_in_a_path_ends_one_request_and_not_the_connection() {
    let app = || Router::new().get("/{name}", async |Path(name): Path<String>| name).get("/", async || "root");
    let answers = exchange(app(), &["/50%", "/%u00e9", "/a\\b"].map(get).concat());
    let statuses: Vec<_> = answers.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect();
    assert_eq!(statuses, ["400", "400", "200"], "{answers}");
    assert!(answers.contains("\"50%\" is not percent-encoded UTF-8") && answers.ends_with("a\\b"), "{answers}");
    let unread = Router::new().get("/{name}", async |request: Request| request.path().to_owned());
    assert!(exchange(unread, &get("/50%")).ends_with("\r\n\r\n/50%"));
}

#[test]
fn tuples_go_by_order_and_structs_by_name() {
    #[derive(serde::Deserialize, Debug)]
    #[allow(dead_code, reason = "only shown")]
    struct Day {
        month: u8,
        year: u16,
    }
    let route = "/{year}/{month}";
    assert_eq!(body(&parameters::<(u16, u8)>(route, "/2024/2")), "(2024, 2)");
    assert_eq!(body(&parameters::<Day>(route, "/2024/2")), "Day { month: 2, year: 2024 }");
    assert_eq!(body(&parameters::<Vec<String>>(route, "/2024/2")), r#"["2024", "2"]"#);
}

#[test]
fn a_client_s_mistake_in_a_parameter_is_a_400_and_the_server_s_a_500() {
    for path in ["/x", "/256", "/%ff", "/%", "/%4", "/1%", "/%u0031", "/\\"] {
        assert_eq!(status(&parameters::<u8>("/{id}", path)), "400", "{path}");
    }
    assert_eq!(status(&parameters::<u8>("/", "/")), "500");
    assert_eq!(status(&parameters::<u8>("/{a}/{b}", "/1/2")), "500");
    assert_eq!(status(&parameters::<(u8, u8)>("/{a}", "/1")), "500");
    assert_eq!(status(&parameters::<(u8,)>("/{a}/{b}", "/1/2")), "500");
}
