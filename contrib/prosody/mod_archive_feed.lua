-- Tells archive_crypt, a component of this server, of the streams and messages of a virtual host's users:
-- docs/feed.rst says what is sent, and when. What it reads of the component's connection is mod_component's.
--
-- Prosody 0.12 and 13. Copy this file into a folder of plugin_paths, and add "archive_feed" to modules_enabled of
-- each VirtualHost. Settings, for all of them or each:
--
--   archive_feed_component = "archive.example.org"  -- the Component that archive_crypt connects as
--   archive_feed_compulsory = false                 -- true: clients are told that whatever they send is archived
--
-- The rest is in archive.cfg.lua, beside this file.

local st = require "util.stanza";
local filters = require "util.filters";
local jid_bare, jid_host = require "util.jid".bare, require "util.jid".host;
local new_id = require "util.id".medium;
local now, datetime = require "util.time".now, require "util.datetime".datetime;

local FEED, FORWARD, PRIVILEGE = "urn:x-archive-crypt:feed:1", "urn:xmpp:forward:0", "urn:xmpp:privilege:2";
local ARCHIVES = { "http://www.xmpp.org/extensions/xep-0136.html#ns", "urn:xmpp:tmp:archive", "urn:xmpp:archive" };
local OPENPGP = "urn:xmpp:openpgp:0:public-keys";
local KEY_NODES = {
	["urn:xmpp:pubkey:2"] = true, ["urn:xmpp:tmp:pubkey"] = true, ["urn:xmpp:pubkeys"] = true,
	["http://www.xmpp.org/extensions/xep-0189.html#ns"] = true, ["urn:xmpp:revoke:2"] = true, [OPENPGP] = true,
};
local HOLD_SECONDS, HOLD_COPIES, HOLD_BYTES = 5, 1000, 4 * 1024 * 1024;

local component = module:get_option_string("archive_feed_component");
local compulsory = module:get_option_boolean("archive_feed_compulsory", false);
if not component or component == module.host then
	error("archive_feed_component must name the Component that archive_crypt connects as", 0);
end

local sessions = prosody.hosts[module.host].sessions; -- name of a user -> { sessions = { resource -> session } }
local watched = setmetatable({}, { __mode = "k" }); -- session -> the filter of ours it has
local notices = require "util.cache".new(1000); -- ids of messages that the component sends in the server's name
local held, held_bytes, expiry = {}, 0, nil; -- copies that wait for the component, as { jid, text }
local dropping = false; -- nothing is held until the component comes back
local missed = 0;
local left = nil; -- the stream that the component is about to end: nothing more is written to it

-- The component's stream, nil while it is away. All is written to it directly: what is not routed
-- cannot leave the server, nor be returned to it as an error.
local function link()
	local host = prosody.hosts[component];
	local state = host and host.modules.component;
	return state and state.connected and state.session ~= left and state.session or nil;
end

local function feed(name, attr)
	attr.xmlns = FEED;
	return st.message({ from = module.host, to = component }):tag(name, attr);
end

local function tell(name, attr)
	local stream = link();
	if stream then stream.send(feed(name, attr)); end
end

local function stream_event(jid, event)
	tell("stream", { jid = jid, event = event });
end

-- Copies

local function take_held()
	local taken = held;
	held, held_bytes = {}, 0;
	if expiry then expiry:stop(); end
	expiry = nil;
	return taken;
end

local function lose_held()
	missed = missed + #take_held();
	dropping = true;
end

local function hold(jid, message)
	local text = tostring(message); -- what the stanza says now: others may still change it
	if #held == HOLD_COPIES or held_bytes + #text > HOLD_BYTES then
		lose_held();
		missed = missed + 1;
		return;
	end
	table.insert(held, { jid = jid, text = text });
	held_bytes = held_bytes + #text;
	expiry = expiry or module:add_timer(HOLD_SECONDS, lose_held);
end

-- XEP-0082 with milliseconds, which util.datetime of 0.12 does not write.
local function timestamp()
	local seconds, fraction = math.modf(now());
	return (datetime(math.floor(seconds)):gsub("Z$", (".%03dZ"):format(math.floor(fraction * 1000))));
end

local function send_copy(jid, direction, stanza, stream)
	local inner = st.clone(stanza, true);
	inner.attr.xmlns = "jabber:client"; -- which is nil within the server
	inner.attr.to = stanza.attr.to or jid_bare(jid); -- the router takes away one's own bare JID
	for _, child in ipairs(stanza) do inner:add_direct_child(child); end
	local message = feed("copy", { jid = jid, direction = direction, held = not stream and timestamp() or nil })
		:tag("forwarded", { xmlns = FORWARD }):add_child(inner);
	if stream then stream.send(message); else hold(jid, message); end
end

-- Whatever fails here, the message itself goes its way; and the reason may have its text in it.
local function copy(jid, direction, stanza)
	local stream = link();
	if not stream and dropping then
		missed = missed + 1;
	elseif not pcall(send_copy, jid, direction, stanza, stream) then
		missed = missed + 1;
		module:log("error", "A message could not be copied, and is not archived");
	end
end

local function is_message(stanza) -- websockets have written the namespace by then
	return stanza.name == "message" and (stanza.attr.xmlns or "jabber:client") == "jabber:client";
end

-- What the component says is not copied back to it.
local function is_components(stanza)
	local from, id = stanza.attr.from, stanza.attr.id;
	return from and jid_host(from) == component or from == module.host and id and notices:get(id);
end

-- The filter runs just before that of mod_smacks (-999), so each message passes once: when it is queued,
-- and not when a resumed stream gets it again.
local function watch(session)
	local jid = session.full_jid;
	watched[session] = watched[session] or function (stanza)
		if is_message(stanza) and not is_components(stanza) then
			copy(jid, "in", stanza);
		end
		return stanza;
	end;
	filters.add_filter(session, "stanzas/out", watched[session], -998);
end

local function sent(event)
	local session = event.origin;
	if session.type == "c2s" and session.full_jid then copy(session.full_jid, "out", event.stanza); end
end

for _, kind in ipairs { "bare", "full", "host" } do
	module:hook("pre-message/"..kind, sent, -0.4); -- after those that block, before carbons (-0.5)
end

-- Before mod_privilege sends it on, at 0. Other modules send copies of what they were given, so an id tells.
module:hook("message/host", function (event)
	local stanza = event.stanza;
	local forwarded = stanza.attr.from == component and stanza:find("{"..PRIVILEGE.."}privilege/{"..FORWARD.."}forwarded");
	local notice = forwarded and forwarded:get_child("message", "jabber:client");
	if notice then
		notice.attr.id = notice.attr.id or new_id();
		notices:set(notice.attr.id, true);
	end
end, 1);

-- What is written to a stream that ends may be lost: so the component asks for an end of it first.
module:hook("message/host", function (event)
	local stream = link();
	if event.stanza:get_child("leave", FEED) and stream and event.origin == stream then
		tell("left", {});
		left = stream;
		return true;
	end
end, 2);

-- Streams

module:hook("resource-bind", function (event)
	watch(event.session);
	stream_event(event.session.full_jid, "open");
end, 100);
module:hook("resource-unbind", function (event)
	stream_event(event.session.full_jid, "close");
end);
module:hook("smacks-hibernation-start", function (event)
	stream_event(event.origin.full_jid, "pending");
end);
module:hook("smacks-hibernation-end", function (event)
	watch(event.resumed); -- it has the filters of the new connection now
	stream_event(event.resumed.full_jid, "resume");
end);

local function each_session(visit)
	for _, user in pairs(sessions) do
		for _, session in pairs(user.sessions) do visit(session); end
	end
end

-- Snapshots

-- Streams of held copies that are over are open until their copies have been sent.
local function snapshot()
	local waiting, over = take_held(), {};
	for _, waited in ipairs(waiting) do over[waited.jid] = true; end
	tell("snapshot", { event = "begin", server = "Prosody "..prosody.version, missed = ("%d"):format(missed) });
	each_session(function (session)
		over[session.full_jid] = nil;
		stream_event(session.full_jid, "open");
		if session.hibernating then stream_event(session.full_jid, "pending"); end
	end);
	for jid in pairs(over) do stream_event(jid, "open"); end
	tell("snapshot", { event = "end" });
	for _, waited in ipairs(waiting) do link().send(waited.text); end
	for jid in pairs(over) do stream_event(jid, "close"); end
	dropping, missed = false, 0;
end

local function attach()
	-- Before mod_delegation and mod_privilege, which tell the component of themselves at 0.
	module:context(component):hook("component-authenticated", snapshot, 100);
	if link() then snapshot(); end
end

-- Published keys

local function published(item, event)
	local node = event.node;
	if KEY_NODES[node] or node:sub(1, #OPENPGP + 1) == OPENPGP..":" then
		tell("published", { jid = item.jid, node = node });
	end
end

local followed = {}; -- item of mod_pep -> what hears of its user's changes
local CHANGES = { "item-published", "item-retracted", "node-purged", "node-deleted" };

module:handle_items("pep-service", function (added)
	local item = added.item;
	followed[item] = function (event) published(item, event); end;
	for _, change in ipairs(CHANGES) do module:hook_object_event(item.service.events, change, followed[item]); end
end, function (removed)
	local item = removed.item;
	for _, change in ipairs(CHANGES) do module:unhook_object_event(item.service.events, change, followed[item]); end
	followed[item] = nil;
end);

-- The stream feature

module:hook("stream-features", function (event)
	if not (event.origin.username and link()) then return; end
	for _, archive in ipairs(ARCHIVES) do
		event.features:tag("feature", { xmlns = archive });
		if archive == "urn:xmpp:archive" then event.features:tag("optional"):up(); end
		if compulsory then event.features:tag("default"):up(); end
		event.features:up();
	end
end);

-- Start and stop

module:hook_global("server-started", function ()
	local host = prosody.hosts[component];
	if not (host and host.modules.component) then
		module:log("error", "Nothing is archived: add Component %q with a component_secret to the configuration, "
			.."or set archive_feed_component to the one that there is", component);
	end
end);

-- Prosody starts its hosts in any order: the component's may not be there yet.
module:hook_global("host-activated", function (host)
	if host == component then attach(); end
end);

function module.load()
	each_session(watch);
	if prosody.hosts[component] then attach(); end
end

function module.unload()
	for session, filter in pairs(watched) do filters.remove_filter(session, "stanzas/out", filter); end
end

function module.save()
	return { missed = missed + #held };
end

function module.restore(saved)
	missed = missed + (saved.missed or 0);
end
