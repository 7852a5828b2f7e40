//! The page: three files, in the binary as they are. They use the API and nothing else.

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;

const INDEX: &str = include_str!("page/index.html");
const STYLE: &str = include_str!("page/style.css");
const SCRIPT: &str = include_str!("page/app.js");
const ICON: &str = include_str!("page/icon.svg");

/// Where each file is found.
pub(super) fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    let files: [(&str, &str, &str); 4] = [
        ("/", "text/html; charset=utf-8", INDEX),
        ("/style.css", "text/css; charset=utf-8", STYLE),
        ("/app.js", "text/javascript; charset=utf-8", SCRIPT),
        ("/icon.svg", "image/svg+xml", ICON),
    ];
    files.into_iter().fold(Router::new(), |router, (path, kind, text)| {
        router.route(path, get(async move || ([(CONTENT_TYPE, kind)], text).into_response()))
    })
}
