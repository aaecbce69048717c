#include "control/http/message.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "control/http/text.h"
#include "storage/base/check.h"

namespace penstock::http {
namespace {

struct Reason {
    int status;
    std::string_view phrase;
};
constexpr std::array reasons{
    Reason{100, "Continue"},
    Reason{200, "OK"},
    Reason{201, "Created"},
    Reason{202, "Accepted"},
    Reason{204, "No Content"},
    Reason{301, "Moved Permanently"},
    Reason{302, "Found"},
    Reason{304, "Not Modified"},
    Reason{307, "Temporary Redirect"},
    Reason{400, "Bad Request"},
    Reason{401, "Unauthorized"},
    Reason{403, "Forbidden"},
    Reason{404, "Not Found"},
    Reason{405, "Method Not Allowed"},
    Reason{406, "Not Acceptable"},
    Reason{408, "Request Timeout"},
    Reason{409, "Conflict"},
    Reason{411, "Length Required"},
    Reason{413, "Content Too Large"},
    Reason{415, "Unsupported Media Type"},
    Reason{417, "Expectation Failed"},
    Reason{421, "Misdirected Request"},
    Reason{429, "Too Many Requests"},
    Reason{431, "Request Header Fields Too Large"},
    Reason{500, "Internal Server Error"},
    Reason{501, "Not Implemented"},
    Reason{502, "Bad Gateway"},
    Reason{503, "Service Unavailable"},
    Reason{504, "Gateway Timeout"},
    Reason{505, "HTTP Version Not Supported"},
};

}  // namespace

bool equals_ignoring_case(std::string_view a, std::string_view b) noexcept {
    return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin(), [](char x, char y) {
               return to_lower(x) == to_lower(y);
           });
}

bool BodyBudget::take(std::size_t bytes) noexcept {
    const BodyBudget& all = whole ? *whole : *this;
    const std::size_t free_bytes = all.limit_bytes - std::min(all.used_bytes, all.limit_bytes);
    if (bytes > free_bytes || (whole && used_bytes > free_bytes - bytes)) {
        return false;
    }
    used_bytes += bytes;
    if (whole) {
        whole->used_bytes += bytes;
    }
    return true;
}

void BodyBudget::give_back(std::size_t bytes) noexcept {
    used_bytes -= bytes;
    if (whole) {
        whole->used_bytes -= bytes;
    }
}

BodyBuffer::~BodyBuffer() {
    if (budget_) {
        budget_->give_back(capacity_ + charged_beside_);
    }
}

bool BodyBuffer::reserve(std::size_t capacity_bytes) {
    if (capacity_bytes <= capacity_) {
        return true;
    }
    if (budget_ && !budget_->take(capacity_bytes - capacity_)) {
        return false;
    }
    auto larger = std::make_unique_for_overwrite<char[]>(capacity_bytes + body_padding_bytes);
    if (size_ != 0) {
        std::memcpy(larger.get(), data_.get(), size_);
    }
    data_ = std::move(larger);
    capacity_ = capacity_bytes;
    pad();
    return true;
}

bool BodyBuffer::charge(std::size_t bytes) {
    if (!budget_ || !budget_->take(bytes)) {
        return !budget_;
    }
    charged_beside_ += bytes;
    return true;
}

void BodyBuffer::append(std::string_view bytes) {
    PENSTOCK_CHECK(bytes.size() <= capacity_ - size_);
    if (!bytes.empty()) {
        std::memcpy(data_.get() + size_, bytes.data(), bytes.size());
        advance(bytes.size());
    }
}

std::span<char> BodyBuffer::spare() noexcept {
    return {data_.get() + size_, capacity_ - size_};
}

void BodyBuffer::advance(std::size_t count_bytes) noexcept {
    PENSTOCK_CHECK(count_bytes <= capacity_ - size_);
    size_ += count_bytes;
    pad();
}

void BodyBuffer::pad() noexcept {
    std::memset(data_.get() + size_, 0, body_padding_bytes);
}

std::string_view BodyBuffer::view() const noexcept {
    // An empty body has the promised padding too.
    static constexpr std::array<char, body_padding_bytes> nothing{};
    return data_ ? std::string_view{data_.get(), size_} : std::string_view{nothing.data(), 0};
}

std::unique_ptr<HttpRequest> HttpRequest::make(
    std::string_view method, std::string_view target,
    std::span<const std::pair<std::string, std::string>> headers, std::string_view body,
    std::shared_ptr<BodyBudget> budget) {
    auto request = std::make_unique<HttpRequest>();
    request->body_.charge_to(std::move(budget));
    if (!request->body_.reserve(body.size())) {
        return nullptr;
    }
    std::string all;
    all.append(method).append(target);
    for (const auto& [name, value] : headers) {
        all.append(name).append(value);
    }
    std::string_view rest = request->keep_head(all);
    const auto take = [&rest](std::size_t count_bytes) {
        const std::string_view taken = rest.substr(0, count_bytes);
        rest.remove_prefix(count_bytes);
        return taken;
    };
    request->method = take(method.size());
    request->set_target(take(target.size()));
    for (const auto& [name, value] : headers) {
        const std::string_view kept_name = take(name.size());
        request->headers.push_back({kept_name, take(value.size())});
        if (kept_name == ":authority") {
            request->authority = request->headers.back().value;
            request->version = 20;
        }
    }
    request->body_.append(body);
    return request;
}

std::string_view HttpRequest::header(std::string_view name) const noexcept {
    for (const HeaderField& field : headers) {
        if (equals_ignoring_case(field.name, name)) {
            return field.value;
        }
    }
    return {};
}

bool HttpRequest::has_header(std::string_view name) const noexcept {
    return count_header(name) != 0;
}

std::size_t HttpRequest::count_header(std::string_view name) const noexcept {
    return static_cast<std::size_t>(std::count_if(
        headers.begin(), headers.end(),
        [name](const HeaderField& field) { return equals_ignoring_case(field.name, name); }));
}

std::string_view HttpRequest::host() const noexcept {
    return version >= 20 && !authority.empty() ? authority : header("Host");
}

std::string_view HttpRequest::keep_head(std::string_view bytes) {
    head_ = std::make_unique_for_overwrite<char[]>(bytes.size() + 1);
    if (!bytes.empty()) {
        std::memcpy(head_.get(), bytes.data(), bytes.size());
    }
    return {head_.get(), bytes.size()};
}

void HttpRequest::set_target(std::string_view value) noexcept {
    target = value;
    authority = {};
    std::string_view rest = value;
    const std::size_t scheme_end = value.find("://");
    if (!value.starts_with('/') && scheme_end != std::string_view::npos) {
        rest = value.substr(scheme_end + 3);
        const std::size_t authority_end = std::min(rest.find_first_of("/?"), rest.size());
        authority = rest.substr(0, authority_end);
        rest.remove_prefix(authority_end);
    }
    const std::size_t question = rest.find('?');
    path = rest.substr(0, question);
    query = question == std::string_view::npos ? std::string_view{} : rest.substr(question + 1);
    if (path.empty()) {
        path = "/";
    }
}

HttpResponse HttpResponse::text(int status, std::string_view line) {
    HttpResponse response;
    response.status = status;
    response.content_type = "text/plain; charset=utf-8";
    response.body.reserve(line.size() + 1);
    response.body.append(line).push_back('\n');
    return response;
}

std::string_view reason_phrase(int status) noexcept {
    for (const Reason& reason : reasons) {
        if (reason.status == status) {
            return reason.phrase;
        }
    }
    return "Unknown";
}

}  // namespace penstock::http
