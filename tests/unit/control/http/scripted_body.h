// A BodyStream for tests that gives what it is told to.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "control/http/message.h"

namespace penstock::http {

// Outlives the response it makes.
struct BodyScript {
    std::vector<std::string> pieces;  // an empty one says `later` once
    BodyStream::Next last = BodyStream::Next::end;
    int asked = 0;  // pieces given
    int alive = 0;  // bodies that exist

    [[nodiscard]] HttpResponse response();
};

class ScriptedBody final : public BodyStream {
public:
    explicit ScriptedBody(BodyScript& script) : script_(script) { ++script_.alive; }
    ~ScriptedBody() override { --script_.alive; }

    Next next(BodyPiece& piece) override {
        if (at_ == script_.pieces.size()) {
            return script_.last;
        }
        const std::string& bytes = script_.pieces[at_++];
        if (bytes.empty()) {
            return Next::later;
        }
        ++script_.asked;
        piece = std::make_shared<const std::string>(bytes);
        return Next::piece;
    }

private:
    BodyScript& script_;
    std::size_t at_ = 0;
};

inline HttpResponse BodyScript::response() {
    HttpResponse response;
    response.content_type = "text/plain";
    response.stream = std::make_unique<ScriptedBody>(*this);
    return response;
}

}  // namespace penstock::http
