#include "control/http/worker.h"

#include <pthread.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>

#include "control/http/guard.h"
#include "storage/base/check.h"

namespace penstock::http {
namespace {

// After our last byte the peer gets this long to close; what it still sends is thrown away, because
// closing with unread input would reset the connection and destroy the answer on its way.
constexpr std::uint64_t linger_ms = 2'000;
constexpr int reads_per_turn_max = 8;
// Read from one connection before the others have their turn.
constexpr std::size_t read_per_turn_bytes_max = 256 * 1024;
// Of the memory for request bodies, what is kept free by closing connections that have made no
// progress to a request for longest: one part in so many.
constexpr std::size_t body_reserve_share = 16;
// How many connections are looked at for one that may go, when a new one or a body has no place.
// The next time the search goes on where it ended.
constexpr std::size_t looked_at_max = 256;

std::string http_date() {
    const time_t now = ::time(nullptr);
    tm parts{};
    gmtime_r(&now, &parts);
    std::array<char, 64> text{};
    const std::size_t size =
        strftime(text.data(), text.size(), "%a, %d %b %Y %H:%M:%S GMT", &parts);
    return {text.data(), size};
}

}  // namespace

void Worker::run(const HandlerFactory& factory, std::promise<std::string>& ready) {
    std::array<char, 16> name{};
    std::snprintf(name.data(), name.size(), "control-%u", loop_->index());
    ::pthread_setname_np(::pthread_self(), name.data());
    std::string problem;
    try {
        handler_ = factory(*loop_);
        context_.large_answer_bytes = [this](const HttpRequest& request) {
            return handler_->large_answer_bytes(request);
        };
    } catch (const std::exception& error) {
        problem = std::string("the HTTP handler could not be made: ") + error.what();
    }
    loop_->at_end_of_turn([this] { settle_dirty(); });
    ready.set_value(problem);
    // Without a handler too: the loop runs until the server, which takes no connections, is
    // stopped.
    loop_->run();
    while (!peers_.empty()) {
        close_peer(peers_.begin()->first, Ending::stopping);
    }
    handler_.reset();
}

void Worker::renew_time() {
    context_.now_ms = loop_->now_ms();
    if (context_.date.empty() || loop_->now_ms() - date_ms_ >= 1000) {
        context_.date = http_date();
        date_ms_ = loop_->now_ms();
    }
}

void Worker::adopt(int fd, bool secure) {
    if (stopping_) {
        ::close(fd);
        counters_.open.subtract();
        return;
    }
    if (peers_.size() >= options_.connections_max && !make_room()) {
        refuse_peer(fd, secure);
        return;
    }
    renew_time();
    auto peer = std::make_unique<Peer>();
    const std::uint64_t id = next_id_++;
    peer->id = id;
    peer->fd = fd;
    peer->secure = secure;
    peer->connection = secure ? options_.tls->connect(context_) : make_clear_connection(context_);
    if (!loop_->watch(fd, [this, id](std::uint32_t events) { on_events(id, events); })) {
        ::close(fd);
        counters_.open.subtract();
        return;
    }
    peer->begun_ms = loop_->now_ms();
    peer->place = strangers_.insert(strangers_.end(), peer.get());
    peer->bodies = &bodiless_;
    peer->body_place = bodiless_.insert(bodiless_.end(), peer.get());
    peers_.emplace(id, std::move(peer));
    sweep();
}

bool Worker::make_room() {
    const auto end = [this](const Peer& peer) {
        close_peer(peer.id,
                   peer.linger_until_ms != 0 ? peer.connection->ending() : Ending::crowded);
        return true;
    };
    // Who has never asked anything goes before those that have, but is given time for it, unless
    // there is a crowd of them.
    const auto is_late = [this](const Peer& peer) {
        return loop_->now_ms() - peer.begun_ms >= options_.times.first_request_ms;
    };
    if (!strangers_.empty() &&
        (strangers_.size() > asked_.size() || is_late(*strangers_.front()))) {
        return end(*strangers_.front());
    }
    for (std::size_t i = 0; i < std::min(asked_.size(), looked_at_max); ++i) {
        const Peer& peer = *asked_.front();
        if (peer.linger_until_ms != 0 || !peer.connection->is_busy()) {
            return end(peer);
        }
        asked_.splice(asked_.end(), asked_, asked_.begin());
    }
    return !strangers_.empty() && end(*strangers_.front());
}

void Worker::move_to(std::list<Peer*>& bodies, Peer& peer) {
    bodies.splice(bodies.end(), *peer.bodies, peer.body_place);
    peer.bodies = &bodies;
}

void Worker::note_body(Peer& peer, bool has_just_asked) {
    std::list<Peer*>& bodies = peer.connection->request_bytes() == 0 ? bodiless_
                               : peer.has_asked                      ? askers_with_body_
                                                                     : strangers_with_body_;
    if (has_just_asked || peer.bodies != &bodies) {
        move_to(bodies, peer);
    }
}

// Memory for bodies that come slowly, or never, must not be what others lack.
void Worker::reclaim_bodies() {
    const BodyBudget& budget = *context_.body_budget;
    const std::size_t used_bytes_max = budget.limit_bytes - budget.limit_bytes / body_reserve_share;
    std::size_t look_at = looked_at_max;
    for (std::list<Peer*>* list : {&strangers_with_body_, &askers_with_body_}) {
        // Each once: those that stay go to the end.
        for (std::size_t left = list->size();
             left != 0 && look_at != 0 && budget.used_bytes > used_bytes_max; --left, --look_at) {
            Peer& peer = *list->front();
            if (peer.connection->request_bytes() == 0) {
                move_to(bodiless_, peer);
            } else if (peer.connection->is_busy()) {
                move_to(*list, peer);
            } else {
                close_peer(peer.id, Ending::crowded);
            }
        }
    }
}

void Worker::refuse_peer(int fd, bool secure) {
    counters_.refused.add();
    counters_.open.subtract();
    static constexpr std::string_view answer =
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\nContent-Length: 22\r\n"
        "Connection: close\r\n\r\nToo many connections.\n";
    if (!secure) {
        [[maybe_unused]] const ssize_t sent =
            ::send(fd, answer.data(), answer.size(), MSG_NOSIGNAL);
    }
    ::close(fd);
}

void Worker::on_events(std::uint64_t id, std::uint32_t events) {
    const auto found = peers_.find(id);
    if (found == peers_.end()) {
        return;
    }
    Peer& peer = *found->second;
    renew_time();
    if ((events & EPOLLERR) != 0) {
        close_peer(id, Ending::peer);
        return;
    }
    if (peer.linger_until_ms != 0) {
        if (!discard_input(peer)) {
            close_peer(id, peer.connection->ending());
        }
        return;
    }
    if ((events & (EPOLLIN | EPOLLHUP)) != 0 && peer.connection->wants_input()) {
        if (!read_from(peer)) {
            close_peer(id, Ending::peer);
            return;
        }
    } else if ((events & EPOLLHUP) != 0) {
        close_peer(id, Ending::peer);
        return;
    }
    take_requests(peer);
    mark_dirty(peer);
}

// False when the connection is broken.
bool Worker::read_from(Peer& peer) {
    std::size_t left_bytes = read_per_turn_bytes_max;
    for (int i = 0; i < reads_per_turn_max && left_bytes != 0 && peer.connection->wants_input();
         ++i) {
        const std::span<char> all = peer.connection->input_space();
        const std::span<char> space = all.first(std::min(all.size(), left_bytes));
        const ssize_t got = ::recv(peer.fd, space.data(), space.size(), 0);
        if (got < 0) {
            return errno == EAGAIN || errno == EINTR;
        }
        if (got == 0) {
            peer.connection->input_ended();
            return true;
        }
        counters_.received_bytes.add(static_cast<std::uint64_t>(got));
        peer.connection->input_received(static_cast<std::size_t>(got));
        left_bytes -= static_cast<std::size_t>(got);
        if (static_cast<std::size_t>(got) < space.size()) {
            return true;
        }
        take_requests(peer);
    }
    return true;
}

// False when the peer has closed too, and the descriptor may go.
bool Worker::discard_input(Peer& peer) {
    std::array<char, 16 * 1024> ignored;
    for (int i = 0; i < reads_per_turn_max; ++i) {
        if (discard_left_bytes_ < ignored.size()) {
            set_interest(peer, 0);  // until the next sweep
            return true;
        }
        const ssize_t got = ::recv(peer.fd, ignored.data(), ignored.size(), 0);
        if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR)) {
            return false;
        }
        if (got < 0) {
            break;
        }
        discard_left_bytes_ -= static_cast<std::size_t>(got);
    }
    return true;
}

void Worker::set_interest(Peer& peer, std::uint32_t interest) {
    if (interest != peer.interest) {
        peer.interest = interest;
        // A descriptor that cannot be watched is found closed by its next use.
        [[maybe_unused]] const Status changed = loop_->change(peer.fd, interest);
    }
}

void Worker::take_requests(Peer& peer) {
    renew_time();
    bool has_asked = false;
    while (auto incoming = peer.connection->next_request()) {
        counters_.requests.add();
        counters_.requests_http2.add(peer.connection->protocol() == Protocol::http2 ? 1 : 0);
        asked_.splice(asked_.end(), peer.has_asked ? asked_ : strangers_, peer.place);
        peer.has_asked = has_asked = true;
        dispatch(peer, std::move(*incoming));
    }
    note_body(peer, has_asked);
}

void Worker::dispatch(Peer& peer, IncomingRequest&& incoming) {
    const std::string& host = peer.secure ? options_.tls_host : options_.host;
    if (auto refusal = options_.guarded ? refuse(*incoming.request, host) : std::nullopt) {
        counters_.guarded.add();
        peer.connection->respond(incoming.stream, make_refusal(context_, std::move(*refusal)));
        return;
    }
    auto exchange = std::make_unique<HttpExchange>(*this, ConnectionId{peer.id}, incoming.stream,
                                                   std::move(incoming.request));
    try {
        handler_->handle(std::move(exchange));
    } catch (const std::exception& error) {
        // The exchange was destroyed on the way here, which answered 500.
        if (options_.log) {
            options_.log(std::string("an HTTP handler failed: ") + error.what());
        }
    }
}

void Worker::respond(ConnectionId id, StreamId stream, HttpResponse&& response) {
    const auto found = peers_.find(static_cast<std::uint64_t>(id));
    if (found == peers_.end()) {
        return;
    }
    Peer& peer = *found->second;
    renew_time();
    peer.connection->respond(stream, std::move(response));
    mark_dirty(peer);
}

void Worker::resume(ConnectionId id, StreamId stream) {
    const auto found = peers_.find(static_cast<std::uint64_t>(id));
    if (found != peers_.end()) {
        found->second->connection->resume(stream);
        mark_dirty(*found->second);
    }
}

void Worker::mark_dirty(Peer& peer) {
    if (!peer.dirty) {
        peer.dirty = true;
        dirty_.push_back(peer.id);
        loop_->repeat_end_of_turn();
    }
}

void Worker::settle_dirty() {
    if (!dirty_.empty()) {
        renew_time();
    }
    // Settling may dirty others, and the same one again, through their handlers.
    for (std::size_t i = 0; i < dirty_.size(); ++i) {
        const auto found = peers_.find(dirty_[i]);
        if (found != peers_.end()) {
            found->second->dirty = false;
            settle(*found->second);
        }
    }
    dirty_.clear();
    reclaim_bodies();
    if (stopping_) {
        end_when_done();
    }
}

// Sends what there is, takes requests that had to wait, and decides what to wait for next.
void Worker::settle(Peer& peer) {
    if (peer.linger_until_ms != 0) {
        return;
    }
    take_requests(peer);
    if (!write_to(peer)) {
        close_peer(peer.id, Ending::peer);
        return;
    }
    if (peer.connection->unsent_bytes() == 0) {
        // Sending may have made room for requests that were waiting for it.
        take_requests(peer);
    }
    Connection& connection = *peer.connection;
    counters_.malformed.add(connection.refused() - peer.refused);
    peer.refused = connection.refused();
    std::uint32_t interest = 0;
    if (connection.wants_close()) {
        ::shutdown(peer.fd, SHUT_WR);
        peer.linger_until_ms = loop_->now_ms() + linger_ms;
        interest = EPOLLIN;
        // Who floods is not waited for: that it learns why is worth less than what it sends costs.
        if (connection.ending() == Ending::flood || !discard_input(peer)) {
            close_peer(peer.id, connection.ending());
            return;
        }
        interest = discard_left_bytes_ < 16 * 1024 ? 0U : static_cast<std::uint32_t>(EPOLLIN);
    } else {
        interest = (connection.wants_input() ? static_cast<std::uint32_t>(EPOLLIN) : 0U) |
                   (connection.unsent_bytes() != 0 ? static_cast<std::uint32_t>(EPOLLOUT) : 0U);
    }
    if (interest != peer.interest) {
        peer.interest = interest;
        if (!loop_->change(peer.fd, interest)) {
            close_peer(peer.id, Ending::peer);
        }
    }
}

// False when the connection is broken.
bool Worker::write_to(Peer& peer) {
    std::array<std::string_view, 16> pieces;
    for (;;) {
        const std::size_t count = peer.connection->next_output(pieces);
        if (count == 0) {
            return true;
        }
        std::array<iovec, pieces.size()> vectors;
        for (std::size_t i = 0; i < count; ++i) {
            vectors[i] = {const_cast<char*>(pieces[i].data()), pieces[i].size()};
        }
        msghdr message{};
        message.msg_iov = vectors.data();
        message.msg_iovlen = count;
        const ssize_t sent = ::sendmsg(peer.fd, &message, MSG_NOSIGNAL);
        if (sent < 0) {
            return errno == EAGAIN || errno == EINTR;
        }
        counters_.sent_bytes.add(static_cast<std::uint64_t>(sent));
        peer.connection->output_sent(static_cast<std::size_t>(sent));
    }
}

void Worker::close_peer(std::uint64_t id, Ending ending) {
    const auto found = peers_.find(id);
    if (stopping_ && ending == Ending::served) {
        ending = Ending::stopping;
    }
    if (ending == Ending::peer) {
        // A reset overtakes what came before it; a handshake that it cut off has failed all the
        // same.
        found->second->connection->input_ended();
    }
    counters_.closed[static_cast<std::size_t>(ending)].add();
    (found->second->has_asked ? asked_ : strangers_).erase(found->second->place);
    found->second->bodies->erase(found->second->body_place);
    loop_->unwatch(found->second->fd);
    ::close(found->second->fd);
    peers_.erase(found);
    counters_.open.subtract();
}

// Looks for peers that take too long, and comes back while there are any peers.
void Worker::sweep() {
    if (sweeping_ || peers_.empty()) {
        return;
    }
    sweeping_ = true;
    const std::uint64_t shortest_ms = std::min(
        {options_.times.idle_ms, options_.times.header_ms, options_.times.stall_ms, linger_ms});
    const std::uint64_t period_ms = std::clamp<std::uint64_t>(shortest_ms / 4, 10, 1000);
    loop_->run_after(period_ms, [this] {
        sweeping_ = false;
        discard_left_bytes_ = discarded_per_sweep_bytes_max;
        std::vector<std::uint64_t> ids;
        ids.reserve(peers_.size());
        for (const auto& [id, peer] : peers_) {
            ids.push_back(id);
        }
        for (const std::uint64_t id : ids) {
            sweep_peer(*peers_.at(id));
        }
        sweep();
    });
}

void Worker::sweep_peer(Peer& peer) {
    if (peer.linger_until_ms != 0) {
        if (loop_->now_ms() > peer.linger_until_ms) {
            close_peer(peer.id, peer.connection->ending());
        } else {
            set_interest(peer, EPOLLIN);
        }
        return;
    }
    renew_time();
    switch (peer.connection->check_time()) {
        case Overdue::nothing:
            break;
        case Overdue::answered:
            counters_.timed_out.add();
            mark_dirty(peer);
            break;
        case Overdue::close:
            counters_.timed_out.add();
            close_peer(peer.id, peer.connection->ending());
            break;
    }
}

void Worker::begin_stop() {
    stopping_ = true;
    if (handler_) {
        handler_->stopping();
    }
    for (const auto& [id, peer] : peers_) {
        peer->connection->begin_shutdown();
        mark_dirty(*peer);
    }
    loop_->run_after(options_.stop_deadline_ms, [this] { loop_->stop(); });
    end_when_done();
}

void Worker::end_when_done() {
    const bool done = std::all_of(peers_.begin(), peers_.end(), [](const auto& entry) {
        return entry.second->linger_until_ms != 0;
    });
    if (done && !ended_) {
        ended_ = true;
        loop_->stop();
    }
}

}  // namespace penstock::http
