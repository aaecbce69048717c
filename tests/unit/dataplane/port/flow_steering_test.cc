// Steering rules against a device that writes down what it is asked and refuses on demand.
#include "dataplane/port/flow_steering.h"

#include <gtest/gtest.h>
#include <rte_flow.h>

namespace penstock {
namespace {

using Calls = std::vector<std::string>;

// "v4 5600 -> 0", with the priority where it is not 0; "?" and what is wrong for anything that is
// not exactly one of our rules.
std::string rule_text(const rte_flow_attr& attributes, const rte_flow_item* pattern,
                      const rte_flow_action* actions) {
    if (attributes.ingress != 1 || attributes.egress != 0 || attributes.transfer != 0 ||
        attributes.group != 0) {
        return "? attributes";
    }
    if (pattern[0].type != RTE_FLOW_ITEM_TYPE_ETH || pattern[2].type != RTE_FLOW_ITEM_TYPE_UDP ||
        pattern[3].type != RTE_FLOW_ITEM_TYPE_END) {
        return "? pattern";
    }
    const bool six = pattern[1].type == RTE_FLOW_ITEM_TYPE_IPV6;
    if (!six && pattern[1].type != RTE_FLOW_ITEM_TYPE_IPV4) {
        return "? family";
    }
    for (const int any : {0, 1}) {
        if (pattern[any].spec != nullptr || pattern[any].mask != nullptr) {
            return "? a restriction below UDP";
        }
    }
    const auto* wanted = static_cast<const rte_flow_item_udp*>(pattern[2].spec);
    const auto* mask = static_cast<const rte_flow_item_udp*>(pattern[2].mask);
    if (wanted == nullptr || mask == nullptr || pattern[2].last != nullptr ||
        mask->hdr.dst_port != 0xFFFF || mask->hdr.src_port != 0 || mask->hdr.dgram_len != 0 ||
        mask->hdr.dgram_cksum != 0 || wanted->hdr.src_port != 0) {
        return "? UDP";
    }
    if (actions[0].type != RTE_FLOW_ACTION_TYPE_QUEUE || actions[0].conf == nullptr ||
        actions[1].type != RTE_FLOW_ACTION_TYPE_END) {
        return "? actions";
    }
    const auto* queue = static_cast<const rte_flow_action_queue*>(actions[0].conf);
    return std::string(six ? "v6 " : "v4 ") +
           std::to_string(rte_be_to_cpu_16(wanted->hdr.dst_port)) + " -> " +
           std::to_string(queue->index) +
           (attributes.priority == 0 ? "" : " priority " + std::to_string(attributes.priority));
}

// What a device has been asked and has; outlives the api object.
struct Device {
    Calls calls;
    std::vector<std::string> rules;  // by number of creation; empty once destroyed
    int refuse_validate = -1;        // the n-th from 0
    int refuse_create = -1;
    bool refuse_destroy = false;
    const char* message = "no room in the table";
    int validated = 0;

    [[nodiscard]] Calls standing() const {
        Calls out;
        for (const std::string& rule : rules) {
            if (!rule.empty()) {
                out.push_back(rule);
            }
        }
        return out;
    }
};

class FakeApi final : public FlowApi {
public:
    explicit FakeApi(Device& device) : device_(device) {}

    int validate(const rte_flow_attr& attributes, const rte_flow_item* pattern,
                 const rte_flow_action* actions, rte_flow_error& error) override {
        device_.calls.push_back("validate " + rule_text(attributes, pattern, actions));
        if (device_.validated++ == device_.refuse_validate) {
            error.message = device_.message;
            return -ENOSYS;
        }
        return 0;
    }
    rte_flow* create(const rte_flow_attr& attributes, const rte_flow_item* pattern,
                     const rte_flow_action* actions, rte_flow_error& error) override {
        const std::string text = rule_text(attributes, pattern, actions);
        device_.calls.push_back("create " + text);
        if (static_cast<int>(device_.rules.size()) == device_.refuse_create) {
            error.message = device_.message;
            return nullptr;
        }
        device_.rules.push_back(text);
        return reinterpret_cast<rte_flow*>(device_.rules.size());  // never looked into
    }
    int destroy(rte_flow* rule, rte_flow_error&) override {
        const auto number = reinterpret_cast<std::uintptr_t>(rule) - 1;
        device_.calls.push_back("destroy " + device_.rules.at(number));
        if (device_.refuse_destroy) {
            return -EBUSY;
        }
        device_.rules.at(number).clear();
        return 0;
    }
    int flush(rte_flow_error&) override {
        device_.calls.push_back("flush");
        device_.rules.clear();
        return 0;
    }

private:
    Device& device_;
};

const std::vector<LaneUdpPort> two_lanes{{5600, 0}, {5601, 1}};

TEST(FlowSteering, ValidatesEveryRuleThenMakesThemAndDestroysThemAtTheEnd) {
    Device device;
    std::string why;
    auto steering =
        FlowSteering::open(std::make_unique<FakeApi>(device), two_lanes, {.queue_count = 2}, why);
    ASSERT_TRUE(steering) << why;
    EXPECT_EQ((*steering)->rule_count(), 4U);
    EXPECT_EQ(device.calls,
              (Calls{"validate v4 5600 -> 0", "validate v6 5600 -> 0", "validate v4 5601 -> 1",
                     "validate v6 5601 -> 1", "create v4 5600 -> 0", "create v6 5600 -> 0",
                     "create v4 5601 -> 1", "create v6 5601 -> 1"}));
    device.calls.clear();
    steering->reset();
    EXPECT_EQ(device.calls, (Calls{"destroy v6 5601 -> 1", "destroy v4 5601 -> 1",
                                   "destroy v6 5600 -> 0", "destroy v4 5600 -> 0"}));
    EXPECT_TRUE(device.standing().empty());
}

TEST(FlowSteering, ARuleThatIsNotValidMakesNone) {
    for (int nth = 0; nth < 4; ++nth) {
        Device device;
        device.refuse_validate = nth;
        std::string why;
        const auto steering = FlowSteering::open(std::make_unique<FakeApi>(device), two_lanes,
                                                 {.queue_count = 2}, why);
        ASSERT_FALSE(steering);
        EXPECT_EQ(steering.error().code, Errc::unsupported);
        EXPECT_EQ(device.calls.size(), static_cast<std::size_t>(nth) + 1);
        EXPECT_TRUE(device.rules.empty());
    }
}

TEST(FlowSteering, ARefusalOfTheNthRuleTakesThoseBeforeItBack) {
    for (int nth = 0; nth < 4; ++nth) {
        Device device;
        device.refuse_create = nth;
        std::string why;
        const auto steering = FlowSteering::open(std::make_unique<FakeApi>(device), two_lanes,
                                                 {.queue_count = 2}, why);
        ASSERT_FALSE(steering);
        EXPECT_EQ(steering.error().code, Errc::unsupported);
        EXPECT_EQ(device.rules.size(), static_cast<std::size_t>(nth));
        EXPECT_TRUE(device.standing().empty());
        // Validated, made up to the refusal, destroyed again.
        EXPECT_EQ(device.calls.size(), static_cast<std::size_t>(4 + nth + 1 + nth));
        const char* const name[] = {
            "UDP port 5600 over IPv4 to queue 0", "UDP port 5600 over IPv6 to queue 0",
            "UDP port 5601 over IPv4 to queue 1", "UDP port 5601 over IPv6 to queue 1"};
        EXPECT_EQ(why, std::string(name[nth]) + ": no room in the table");
    }
}

TEST(FlowSteering, WithoutAReasonItSaysSo) {
    Device device;
    device.refuse_create = 0;
    device.message = nullptr;
    std::string why;
    EXPECT_FALSE(
        FlowSteering::open(std::make_unique<FakeApi>(device), two_lanes, {.queue_count = 2}, why));
    EXPECT_EQ(why, "UDP port 5600 over IPv4 to queue 0: no reason given");
}

TEST(FlowSteering, ARuleThatWillNotGoIsFlushed) {
    Device device;
    device.refuse_destroy = true;
    std::string why;
    auto steering =
        FlowSteering::open(std::make_unique<FakeApi>(device), two_lanes, {.queue_count = 2}, why);
    ASSERT_TRUE(steering) << why;
    steering->reset();
    EXPECT_EQ(device.calls.back(), "flush");
    EXPECT_TRUE(device.standing().empty());
}

TEST(FlowSteering, LanesWithoutAQueueGetNoRule) {
    Device device;
    std::string why;
    const std::vector<LaneUdpPort> ports{{5600, 0}, {5601, 1}, {5602, 2}, {514, 1}};
    const auto steering =
        FlowSteering::open(std::make_unique<FakeApi>(device), ports, {.queue_count = 2}, why);
    ASSERT_TRUE(steering) << why;
    EXPECT_EQ(device.standing(), (Calls{"v4 5600 -> 0", "v6 5600 -> 0", "v4 5601 -> 1",
                                        "v6 5601 -> 1", "v4 514 -> 1", "v6 514 -> 1"}));
}

TEST(FlowSteering, FamiliesCanHaveAPriorityEach) {
    Device device;
    std::string why;
    const auto steering = FlowSteering::open(std::make_unique<FakeApi>(device), two_lanes,
                                             {.queue_count = 2, .priority_per_family = true}, why);
    ASSERT_TRUE(steering) << why;
    EXPECT_EQ(device.standing(), (Calls{"v4 5600 -> 0", "v6 5600 -> 0 priority 1", "v4 5601 -> 1",
                                        "v6 5601 -> 1 priority 1"}));
}

}  // namespace
}  // namespace penstock
