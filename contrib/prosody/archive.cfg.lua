-- archive_crypt beside Prosody 0.12 and 13. docs/prosody.rst says where the rest goes.
--
-- Lay this in /etc/prosody/conf.d, and put in your domains and the secret. Where a VirtualHost of yours has
-- modules_enabled already, add the three names there and take the line out here: the last one said wins.

archive_feed_component = "archive.capulet.lit"

-- A function, as each host needs a table of its own: mod_delegation keeps notes in it.
local function delegated()
	return {
		["urn:xmpp:archive"] = { jid = "archive.capulet.lit" };
		["urn:xmpp:tmp:archive"] = { jid = "archive.capulet.lit" };
		["http://www.xmpp.org/extensions/xep-0136.html#ns"] = { jid = "archive.capulet.lit" };
	};
end

-- What the archive may do in a user's name: push preferences to his clients, and read his published keys;
-- and in the server's: tell him, once, that something could not be archived.
local function privileged()
	return {
		["archive.capulet.lit"] = {
			message = "outgoing";
			iq = {
				["urn:xmpp:archive"] = "set";
				["urn:xmpp:tmp:archive"] = "set";
				["http://www.xmpp.org/extensions/xep-0136.html#ns"] = "set";
				["http://jabber.org/protocol/pubsub"] = "get";
			};
		};
	};
end

VirtualHost "capulet.lit"
	modules_enabled = { "delegation", "privilege", "archive_feed" }
	delegations = delegated()
	privileged_entities = privileged()

VirtualHost "montague.lit"
	modules_enabled = { "delegation", "privilege", "archive_feed" }
	delegations = delegated()
	privileged_entities = privileged()

Component "archive.capulet.lit"
	component_secret = "SECRET"
	-- An archive that lost its connection, unknown to Prosody, may come back at once.
	component_conflict_resolve = "kick_old"
	modules_enabled = { "delegation", "privilege" }
