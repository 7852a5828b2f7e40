//! The API by itself: what is asked, and what comes back.

use std::sync::Arc;
use std::time::SystemTime;

use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use polyport_codecs::Registry;
use serde_json::Value;

use super::super::{Admin, Hub, LogLevel, Operator};
use super::{ENTRIES, routes};
use crate::Proxy;

const CONFIG: &str = "workers = 1\n[[listener]]\nname = \"edge\"\naddress = \"127.0.0.1:0\"\n\
    [[cluster]]\nname = \"web shop\"\nendpoints = [\"127.0.0.1:9\"]\n\
    [[route]]\nname = \"shop\"\nmatch = { protocol = \"http\", header.x-api-key = \"open sesame\" }\nto = \"web shop\"\n";

struct Asked {
    admin: Arc<Admin>,
    _proxy: Proxy,
}

impl Asked {
    fn new() -> Self {
        let registry = Registry::builtin();
        let (snapshot, _) = crate::config::compile(CONFIG, "a.toml", &registry).expect("a config");
        let snapshot = Arc::new(snapshot);
        let proxy = Proxy::start(snapshot.clone()).expect("a proxy");
        let hub = Arc::new(Hub::default());
        let admin = Admin {
            operator: Operator::new(&proxy, "a.toml".into(), hub),
            registry,
            log: LogLevel::new("info".into(), |_| Ok(())),
            write: true,
            started: SystemTime::now(),
            leaving: false.into(),
            unanswered: 0.into(),
        };
        Self { admin: Arc::new(admin), _proxy: proxy }
    }

    async fn ask(&self, method: &str, path: &str, body: &str) -> (StatusCode, String) {
        let request = Request::builder().method(method).uri(path);
        let request = request.body(Body::from(body.to_owned())).expect("a request");
        let service = TowerToHyperService::new(routes().with_state::<()>(self.admin.clone()));
        let response = service.call(request).await.expect("an answer");
        let status = response.status();
        let body = to_bytes(response.into_body(), 1 << 20).await.expect("a body");
        (status, String::from_utf8(body.to_vec()).expect("text"))
    }

    async fn json(&self, method: &str, path: &str, body: &str) -> (StatusCode, Value) {
        let (status, text) = self.ask(method, path, body).await;
        (status, serde_json::from_str(&text).unwrap_or_else(|_| panic!("{path}: {text}")))
    }
}

#[tokio::test]
async fn every_path_that_is_listed_is_there() {
    let asked = Asked::new();
    for (method, path, _) in ENTRIES {
        if path.ends_with("/tap") {
            continue;
        }
        let path = path.replace("{cluster}", "web%20shop").replace("{address}", "127.0.0.1:9");
        let (status, _) =
            asked.ask(method, &path.replace("/profile", "/profile?seconds=1"), "{}").await;
        assert!(
            status != StatusCode::NOT_FOUND && status != StatusCode::METHOD_NOT_ALLOWED,
            "{method} {path}: {status}"
        );
    }
}

#[tokio::test]
async fn what_runs_is_told_without_its_secrets() {
    let asked = Asked::new();
    let (_, info) = asked.json("GET", "/api/info", "").await;
    assert_eq!((&info["config"], &info["workers"]), (&"a.toml".into(), &1.into()));
    let (_, clusters) = asked.json("GET", "/api/clusters", "").await;
    let endpoint = &clusters["clusters"][0]["endpoints"][0];
    assert_eq!((&endpoint["address"], &endpoint["usable"]), (&"127.0.0.1:9".into(), &true.into()));
    let (_, listeners) = asked.json("GET", "/api/listeners", "").await;
    assert_eq!(listeners["listeners"][0]["name"], "edge");
    for path in
        ["/api/config", "/api/routes", "/api/explain?fact=protocol=http&fact=header.x-api-key=a"]
    {
        let (status, text) = asked.ask("GET", path, "").await;
        assert_eq!(status, StatusCode::OK, "{path}: {text}");
        assert!(text.contains("***") && !text.contains("sesame"), "{path}: {text}");
    }
}

#[tokio::test]
async fn a_question_is_answered_as_the_command_line_does() {
    let asked = Asked::new();
    let body = r#"{"facts": ["protocol=http", "header.x-api-key=open sesame"]}"#;
    let (_, answer) = asked.json("POST", "/api/explain", body).await;
    assert_eq!(answer["decision"]["route"], "shop");
    let (_, answer) = asked.json("GET", "/api/explain?fact=protocol=redis", "").await;
    assert_eq!(answer["decision"]["route"], Value::Null);
    // GET / with the key.
    let frame = "R0VUIC8gSFRUUC8xLjENCkhvc3Q6IGENClgtQXBpLUtleTogb3BlbiBzZXNhbWUNCg0K";
    let (_, answer) =
        asked.json("POST", "/api/explain", &format!(r#"{{"frame": "{frame}"}}"#)).await;
    assert_eq!(answer["decision"]["route"], "shop", "{answer}");
}

#[tokio::test]
async fn what_cannot_be_done_is_said() {
    let asked = Asked::new();
    let cases = [
        (
            "GET",
            "/api/explain?fact=kee=1",
            "",
            StatusCode::BAD_REQUEST,
            "no protocol has a key `kee`",
        ),
        ("POST", "/api/explain", "{\"fact\": 1}", StatusCode::BAD_REQUEST, "unknown field"),
        ("POST", "/api/explain", "{\"frame\": \"?\"}", StatusCode::BAD_REQUEST, "no base64"),
        (
            "GET",
            "/api/tap?match=kee%3D1",
            "",
            StatusCode::BAD_REQUEST,
            "no protocol has a key `kee`",
        ),
        ("GET", "/api/tap?route=other", "", StatusCode::BAD_REQUEST, "there is no route `other`"),
        ("GET", "/api/profile?seconds=0", "", StatusCode::BAD_REQUEST, "from 1 to 60"),
        ("GET", "/api/profile?format=svg&seconds=61", "", StatusCode::BAD_REQUEST, "from 1 to 60"),
        ("GET", "/api/profile?format=png", "", StatusCode::BAD_REQUEST, "threads, svg, pprof or"),
        ("GET", "/api/connections?limit=5000", "", StatusCode::BAD_REQUEST, "from 1 to 1000"),
        ("PUT", "/api/log-level", "polyport=loud", StatusCode::BAD_REQUEST, "write error, warn"),
        (
            "POST",
            "/api/clusters/other/endpoints/127.0.0.1:9/drain",
            "",
            StatusCode::NOT_FOUND,
            "no cluster `other`",
        ),
        (
            "POST",
            "/api/clusters/web%20shop/endpoints/127.0.0.1:8/drain",
            "",
            StatusCode::NOT_FOUND,
            "no endpoint 127.0.0.1:8",
        ),
        (
            "POST",
            "/api/clusters/web%20shop/endpoints/here/drain",
            "",
            StatusCode::BAD_REQUEST,
            "no address",
        ),
    ];
    for (method, path, body, status, why) in cases {
        let (got, answer) = asked.json(method, path, body).await;
        assert_eq!(got, status, "{path}: {answer}");
        let told = answer["error"].as_str().unwrap_or_default();
        assert!(told.contains(why), "{path}: {told}");
    }
}

#[tokio::test]
async fn the_log_level_is_changed() {
    let asked = Asked::new();
    let (status, answer) = asked.json("PUT", "/api/log-level", "debug").await;
    assert_eq!((status, &answer["level"]), (StatusCode::OK, &"debug".into()));
    let (_, answer) = asked.json("GET", "/api/log-level", "").await;
    assert_eq!(answer["level"], "debug");
}

#[tokio::test]
async fn an_endpoint_is_drained_and_taken_back() {
    let asked = Asked::new();
    let drained = async || {
        let (_, clusters) = asked.json("GET", "/api/clusters", "").await;
        clusters["clusters"][0]["endpoints"][0]["drained"].as_bool().expect("a verdict")
    };
    for (verb, expected) in [("drain", true), ("undrain", false)] {
        let path = format!("/api/clusters/web%20shop/endpoints/127.0.0.1:9/{verb}");
        let (status, answer) = asked.json("POST", &path, "").await;
        assert_eq!((status, &answer["drained"]), (StatusCode::OK, &expected.into()));
        assert_eq!(drained().await, expected);
    }
    // It was started without a file.
    let (status, answer) = asked.json("POST", "/api/reload", "").await;
    assert_eq!(
        (status, answer["error"].as_str()),
        (StatusCode::CONFLICT, Some("there is no config file to read again"))
    );
}
