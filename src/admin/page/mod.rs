//! The page for people: one document, with its style and its script in it, that loads nothing else. Its policy lets
//! exactly these two run, by their hashes, so that what comes from clients could not, even if it became part of it.

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::body::Bytes;
use hyper::header::HeaderValue;

const DOCUMENT: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// The page, put together.
#[derive(Debug)]
pub struct Page {
    html: Bytes,
    policy: HeaderValue,
}

impl Default for Page {
    fn default() -> Self {
        let html = DOCUMENT.replacen("/*style*/", STYLE, 1).replacen("/*script*/", SCRIPT, 1);
        let policy = format!(
            "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; connect-src 'self'; \
             base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
             require-trusted-types-for 'script'; trusted-types 'none'",
            hash(SCRIPT),
            hash(STYLE),
        );
        // Hexadecimal digits and the words above are a header's.
        let policy = HeaderValue::try_from(policy).unwrap_or(HeaderValue::from_static("default-src 'none'"));
        Self { html: html.into(), policy }
    }
}

impl Page {
    /// The document.
    pub(super) fn html(&self) -> Bytes {
        self.html.clone()
    }

    /// Its Content-Security-Policy.
    pub(super) fn policy(&self) -> HeaderValue {
        self.policy.clone()
    }
}

fn hash(text: &str) -> String {
    STANDARD.encode(digest::digest(&digest::SHA256, text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_light_and_loads_nothing() {
        let page = Page::default();
        assert!(page.html.len() < 40_000, "{} bytes", page.html.len());
        let text = std::str::from_utf8(&page.html).unwrap();
        for asset in
            ["src=", "href=", "@import", "url(", "http://", "https://", "style=", " onclick", "//cdn"]
        {
            // The namespace of SVG is a name and not an address that anybody asks.
            let text = text.replace("http://www.w3.org/2000/svg", "");
            assert!(!text.contains(asset), "{asset}");
        }
        for placeholder in ["/*style*/", "/*script*/"] {
            assert!(!text.contains(placeholder), "{placeholder}");
        }
        assert_eq!((text.matches("<script>").count(), text.matches("<style>").count()), (1, 1));
    }

    #[test]
    fn nothing_that_comes_from_clients_can_become_markup() {
        for way in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function("] {
            assert!(!SCRIPT.contains(way), "{way}");
        }
    }
}
