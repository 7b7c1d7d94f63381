%% Tells archive_crypt, a component of this server, of the streams and messages of a virtual host's users,
%% and sends for it what only the server may send: docs/feed.rst says what, and when.
%%
%% ejabberd 23.01 to 24.12. It needs no header files: erlc -o /usr/local/lib/archive_crypt mod_archive_feed.erl
%% makes it, ERL_OPTIONS="-pa /usr/local/lib/archive_crypt" in /etc/default/ejabberd has it found. No folder of
%% that path may be called "ejabberd": the server would look there for its own files. Its settings:
%%
%%   component: archive.example.org  # which the listener of ejabberd_service names, too
%%   compulsory: false               # true: clients are told that whatever they send is archived
-module(mod_archive_feed).
-behaviour(gen_mod).
-behaviour(gen_server).

-export([start/2, stop/1, reload/3, depends/2, mod_options/1, mod_opt_type/1, mod_doc/0]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, format_status/1]).
-export([user_send/1, user_receive/1, opened/3, closed/3, pending/1, resumed/1, features/2]).
-export([node_published/6, node_deleted/4, filter_packet/1, component_connected/1, component_send/1]).

-define(FEED, <<"urn:x-archive-crypt:feed:1">>).
-define(FORWARD, <<"urn:xmpp:forward:0">>).
-define(PRIVILEGE, <<"urn:xmpp:privilege:2">>).
-define(CLIENT, <<"jabber:client">>).
-define(PUBSUB, <<"http://jabber.org/protocol/pubsub">>).
-define(ARCHIVES, [<<"http://www.xmpp.org/extensions/xep-0136.html#ns">>, <<"urn:xmpp:tmp:archive">>,
                   <<"urn:xmpp:archive">>]).
-define(KEY_NODES, [<<"urn:xmpp:pubkey:2">>, <<"urn:xmpp:tmp:pubkey">>, <<"urn:xmpp:pubkeys">>,
                    <<"http://www.xmpp.org/extensions/xep-0189.html#ns">>, <<"urn:xmpp:revoke:2">>,
                    <<"urn:xmpp:openpgp:0:public-keys">>]).
-define(SECOND, 1000).
-define(HOLD_MS, 5000).
-define(HOLD_COPIES, 1000).
-define(HOLD_BYTES, 4194304).

%% One process for each virtual host: what passes through it has one order.
-record(feed, {host, component,
               link = none,     % the process of the component's stream and its monitor, or none
               left = none,     % the process of a stream that the component is about to end
               envelope,        % the message that goes around all, as soon as there was a link
               streams = #{},   % full JID => {session id, open | pending}, as far as they have been told
               held = [],       % {full JID, copy} that wait for the component, the last one first
               count = 0, bytes = 0, expiry = none,
               dropping = false, % nothing is held until the component comes back
               missed = 0}).

%%% The module

start(Host, Opts) ->
    case lists:member(gen_mod:get_opt(component, Opts), ejabberd_option:hosts()) of
        true -> {error, <<"component must name what archive_crypt connects as, not a virtual host">>};
        false -> watch(Host, Opts)
    end.

watch(Host, Opts) ->
    %% Hooks first: the process looks at the sessions that there are when it starts, and misses none.
    [ejabberd_hooks:add(Hook, Host, ?MODULE, Function, Priority) || {Hook, Function, Priority} <- host_hooks()],
    [ejabberd_hooks:add(Hook, ?MODULE, Function, Priority) || {Hook, Function, Priority} <- server_hooks()],
    gen_mod:start_child(?MODULE, Host, Opts).

stop(Host) ->
    [ejabberd_hooks:delete(Hook, Host, ?MODULE, Function, Priority) || {Hook, Function, Priority} <- host_hooks()],
    gen_mod:is_loaded_elsewhere(Host, ?MODULE) orelse
        [ejabberd_hooks:delete(Hook, ?MODULE, Function, Priority) || {Hook, Function, Priority} <- server_hooks()],
    gen_mod:stop_child(?MODULE, Host).

reload(Host, New, _Old) ->
    tell(Host, {component, gen_mod:get_opt(component, New)}).

depends(_Host, _Opts) -> [{mod_pubsub, soft}].
mod_opt_type(component) -> econf:domain(); mod_opt_type(compulsory) -> econf:bool().
mod_options(_Host) -> [component, {compulsory, false}].
mod_doc() -> #{desc => [<<"Tells archive_crypt, a component, of the streams and messages of the users.">>]}.

host_hooks() ->
    %% 87: after the modules that block and filter, before mod_mam (88) and mod_carboncopy (89)
    [{user_send_packet, user_send, 87}, {user_receive_packet, user_receive, 87},
     {sm_register_connection_hook, opened, 50}, {sm_remove_connection_hook, closed, 50},
     {c2s_session_pending, pending, 50}, {c2s_session_resumed, resumed, 50}, {c2s_post_auth_features, features, 50},
     {pubsub_publish_item, node_published, 50}, {pubsub_delete_node, node_deleted, 50}].

server_hooks() ->
    %% 20: before mod_delegation (50) asks the component what it is
    [{component_connected, component_connected, 20}, {component_send_packet, component_send, 40},
     {filter_packet, filter_packet, 50}].

component(Host) -> gen_mod:get_module_opt(Host, ?MODULE, component).
feeds(Component) ->
    [Host || Host <- ejabberd_option:hosts(), gen_mod:is_loaded(Host, ?MODULE), component(Host) =:= Component].
tell(Host, What) -> gen_server:cast(gen_mod:get_module_proc(Host, ?MODULE), What).

%%% Copies: encoded by the process of the client's stream

user_send({Packet, #{lserver := Host} = State} = Acc) when element(1, Packet) =:= message ->
    %% The stream's process asks the same after this hook: nothing is copied that does not go out.
    case ejabberd_hooks:run_fold(privacy_check_packet, Host, allow, [State, Packet, out]) of
        allow -> copy(<<"out">>, Acc);
        _ -> Acc
    end;
user_send({Packet, #{jid := JID} = State}) when element(1, Packet) =:= iq ->
    {mark_change(Packet, JID), State};
user_send(Acc) -> Acc.

%% A stream that was resumed elsewhere only passes on what still came for it: the other one copies that.
user_receive({_Packet, #{mgmt_state := resumed}} = Acc) -> Acc;
user_receive({Packet, _} = Acc) when element(1, Packet) =:= message -> copy(<<"in">>, Acc);
user_receive(Acc) -> Acc.

%% Nothing fails here: ejabberd_hooks would log the message.
copy(Direction, {Packet, #{jid := JID, lserver := Host}} = Acc) ->
    safely(fun() -> is_ours(Packet, Host) orelse tell(Host, copy_of(Packet, Direction, name(JID))) end,
           fun() -> tell(Host, lost) end),
    Acc.

%% What the component sends is not copied back to it.
is_ours(Packet, Host) ->
    {_, From, _} = jid:tolower(xmpp:get_from(Packet)),
    From =:= component(Host) orelse xmpp:get_meta(Packet, archive_feed_notice, false).

copy_of(Packet, Direction, Name) ->
    Attrs = [{<<"xmlns">>, ?FEED}, {<<"jid">>, Name}, {<<"direction">>, Direction}],
    {copy, Name, {xmlel, <<"copy">>, Attrs, [forwarded(Packet)]}}.

forwarded(Packet) ->
    {xmlel, Name, Attrs, Children} = xmpp:encode(Packet),
    Inner = {xmlel, Name, [{<<"xmlns">>, ?CLIENT} | lists:keydelete(<<"xmlns">>, 1, Attrs)], Children},
    {xmlel, <<"forwarded">>, [{<<"xmlns">>, ?FORWARD}], [Inner]}.

%%% Streams

opened(SID, JID, _Info) -> tell_stream(JID, open, SID).
closed(SID, JID, _Info) -> tell_stream(JID, close, SID).
pending(#{jid := JID, sid := SID} = State) -> tell_stream(JID, pending, SID), State.
resumed(#{jid := JID, sid := SID} = State) -> tell_stream(JID, resume, SID), State.

tell_stream(JID, Event, SID) ->
    {_, Host, _} = jid:tolower(JID),
    tell(Host, {stream, name(JID), Event, SID}).
name(JID) -> jid:encode(jid:tolower(JID)).

features(Acc, Host) ->
    case ejabberd_router:is_my_route(component(Host)) of
        true -> [feature(NS, gen_mod:get_module_opt(Host, ?MODULE, compulsory)) || NS <- ?ARCHIVES] ++ Acc;
        false -> Acc
    end.

feature(NS, Compulsory) ->
    {xmlel, <<"feature">>, [{<<"xmlns">>, NS}],
     [{xmlel, <<"optional">>, [], []} || NS =:= <<"urn:xmpp:archive">>]
     ++ [{xmlel, <<"default">>, [], []} || Compulsory]}.

%%% Published keys

node_published(_Host, Node, _Publisher, Service, _Item, _Payload) -> changed(jid:tolower(Service), Node).
node_deleted(_Host, Owner, Node, _Index) -> changed(Owner, Node).

%% mod_pubsub has no hook for retracted items and purged nodes. A request for that is marked; the mark is
%% found again on its result, which is routed when the change is in force.
mark_change(IQ, JID) ->
    case [attribute(<<"node">>, Attrs)
          || xmpp:get_type(IQ) =:= set, name(jid:remove_resource(JID)) =:= name(xmpp:get_to(IQ)),
             {xmlel, <<"pubsub">>, _, Actions} <- elements(IQ),
             {xmlel, Name, Attrs, _} <- Actions, Name =:= <<"retract">> orelse Name =:= <<"purge">>] of
        [Node] -> xmpp:put_meta(IQ, archive_feed_node, Node);
        _ -> IQ
    end.

filter_packet(IQ) when element(1, IQ) =:= iq ->
    case xmpp:get_type(IQ) =:= result andalso xmpp:get_meta(IQ, archive_feed_node, false) of
        false -> ok;
        Node -> changed(jid:tolower(xmpp:get_to(IQ)), Node)
    end,
    IQ;
filter_packet(Packet) -> Packet.

changed({<<_, _/binary>>, Host, _} = User, Node) ->
    case lists:member(Node, ?KEY_NODES) orelse string:prefix(Node, <<"urn:xmpp:openpgp:0:public-keys:">>) =/= nomatch of
        true -> tell(Host, {published, name(jid:remove_resource(User)), Node});
        false -> ok
    end;
changed(_Service, _Node) -> ok. % no account

%%% The process

init([Host, Opts]) ->
    Streams = [{name(USR), {ejabberd_sm:get_session_sid(U, S, R), open}}
               || {U, S, R} = USR <- ejabberd_sm:get_vh_session_list(Host)],
    process_flag(sensitive, true), % what is dumped of it holds no message either
    %% The hook tells of components that connect to this node of a cluster; others are looked for.
    {ok, _} = timer:send_interval(?SECOND, look),
    Component = gen_mod:get_opt(component, Opts),
    {ok, find_link(#feed{host = Host, component = Component, streams = maps:from_list(Streams)})}.

%% Called by the process of the component's stream: it goes on when the snapshot has been sent.
handle_call(connected, {Pid, _Tag}, Feed) -> {reply, ok, safely(fun() -> connect(Pid, Feed) end, fun() -> Feed end)};
handle_call(_Request, _From, Feed) -> {reply, {error, unknown}, Feed}.

handle_cast(What, #feed{missed = Missed} = Feed) ->
    {noreply, safely(fun() -> happened(What, Feed) end, fun() -> Feed#feed{missed = Missed + 1} end)}.

handle_info({'DOWN', Monitor, process, _, _}, #feed{link = {_, Monitor}} = Feed) ->
    handle_info(look, Feed#feed{link = none});
handle_info(look, #feed{link = none} = Feed) -> {noreply, safely(fun() -> find_link(Feed) end, fun() -> Feed end)};
handle_info({timeout, Expiry, held}, #feed{expiry = Expiry} = Feed) -> {noreply, lose(Feed)};
handle_info(_Other, Feed) -> {noreply, Feed}.

%% What would be logged of this process if it were ended: no message, and no copy that it holds.
format_status(Status) -> maps:map(fun(log, _) -> []; (_, _) -> hidden end, Status).

%% What cannot be done is left, and nothing is logged of it but the place: reasons have copies in them.
safely(Change, Else) ->
    try Change()
    catch Class:_:Places ->
        {Module, Function, _, _} = hd(Places),
        logger:error("mod_archive_feed: ~p in ~p:~p", [Class, Module, Function]),
        Else()
    end.

happened({copy, JID, Copy}, Feed) -> copied(JID, Copy, Feed);
happened(lost, #feed{missed = Missed} = Feed) -> Feed#feed{missed = Missed + 1};
happened({leave, Pid}, #feed{link = {Pid, _}} = Feed) ->
    send(Feed, <<"left">>, []), (disconnect(Feed))#feed{left = Pid};
happened({leave, _}, Feed) -> Feed;
happened({component, Component}, #feed{component = Component} = Feed) -> Feed;
happened({component, Component}, Feed) -> find_link((disconnect(Feed))#feed{component = Component});
happened({published, JID, Node}, Feed) ->
    send(Feed, <<"published">>, [{<<"jid">>, JID}, {<<"node">>, Node}]), Feed;
happened({stream, JID, Event, SID}, #feed{streams = Streams} = Feed) ->
    case {Event, Streams} of
        {close, #{JID := {SID, _}}} -> send_stream(Feed, JID, Event), Feed#feed{streams = maps:remove(JID, Streams)};
        {close, _} -> Feed; % of a session that was resumed or replaced: the stream goes on
        {pending, _} -> send_stream(Feed, JID, Event), Feed#feed{streams = Streams#{JID => {SID, pending}}};
        {_, _} -> send_stream(Feed, JID, Event), Feed#feed{streams = Streams#{JID => {SID, open}}}
    end.

send_stream(Feed, JID, Event) ->
    send(Feed, <<"stream">>, [{<<"jid">>, JID}, {<<"event">>, atom_to_binary(Event, utf8)}]).

send(Feed, Name, Attrs) -> send(Feed, {xmlel, Name, [{<<"xmlns">>, ?FEED} | Attrs], []}).

%% To the process of the component's stream itself: what is not routed cannot leave the server.
send(#feed{link = none}, _Element) -> ok;
send(#feed{link = {Pid, _}, envelope = Envelope}, Element) ->
    Pid ! {route, xmpp:set_els(Envelope, [Element])}, ok.

%%% The component comes and goes

component_connected(Component) ->
    Hosts = feeds(Component),
    [replace(Pid) || [_ | _] <- [Hosts], Pid <- routes(Component), Pid =/= self()],
    [gen_server:call(gen_mod:get_module_proc(Host, ?MODULE), connected, infinity) || Host <- Hosts],
    ok.

%% A connection that was lost unnoticed would get a share of what is routed, and mod_delegation would forget
%% the new one when the old one ends: so it has to end before.
replace(Pid) ->
    Monitor = erlang:monitor(process, Pid),
    ejabberd_service:send(Pid, xmpp:serr_conflict(<<"Replaced by a new connection">>, ejabberd_option:language())),
    ejabberd_service:stop_async(Pid),
    receive {'DOWN', Monitor, process, _, _} -> ok after ?SECOND -> exit(Pid, kill) end.

find_link(#feed{component = Component, left = Left} = Feed) ->
    case ejabberd_router:is_my_route(Component) andalso routes(Component) -- [Left] of
        [Pid | _] -> connect(Pid, Feed);
        _ -> Feed
    end.

%% The processes of the component's streams. ejabberd_router keeps that to itself, its backends do not.
%% What has a function for a hint is a part of this server, not a component.
routes(Component) ->
    Backend = list_to_existing_atom("ejabberd_router_" ++ atom_to_list(ejabberd_option:router_db_type())),
    [Pid || {ok, Routes} <- [Backend:find_routes(Component)], {route, _, _, Pid, Hint} <- Routes,
            is_pid(Pid), not is_tuple(Hint), node(Pid) =/= node() orelse is_process_alive(Pid)].

connect(Pid, #feed{link = {Pid, _}} = Feed) -> Feed;
connect(Pid, #feed{host = Host, component = Component} = Feed) ->
    Empty = {xmlel, <<"message">>, [{<<"from">>, Host}, {<<"to">>, Component}], []},
    snapshot((disconnect(Feed))#feed{link = {Pid, erlang:monitor(process, Pid)},
                                     envelope = xmpp:decode(Empty, ?CLIENT, [])}).

disconnect(#feed{link = none} = Feed) -> Feed;
disconnect(#feed{link = {_, Monitor}} = Feed) ->
    erlang:demonitor(Monitor, [flush]), Feed#feed{link = none}.

%% Streams of held copies that are over are open until their copies have been sent. Those of the
%% cluster's other nodes are known to ejabberd_sm only.
snapshot(#feed{host = Host, streams = Streams, held = Held, missed = Missed} = Feed) ->
    Others = [name(USR) || USR <- ejabberd_sm:get_vh_session_list(Host)],
    Live = lists:usort(maps:keys(Streams) ++ Others),
    Over = lists:usort([JID || {JID, _} <- Held]) -- Live,
    send(Feed, <<"snapshot">>, [{<<"event">>, <<"begin">>},
                                {<<"server">>, <<"ejabberd ", (ejabberd_option:version())/binary>>},
                                {<<"privilege">>, ?PRIVILEGE}, {<<"missed">>, integer_to_binary(Missed)}]),
    [send_stream(Feed, JID, open) || JID <- Live ++ Over],
    [send_stream(Feed, JID, pending) || {JID, {_, pending}} <- maps:to_list(Streams)],
    send(Feed, <<"snapshot">>, [{<<"event">>, <<"end">>}]),
    [send(Feed, Copy) || {_, Copy} <- lists:reverse(Held)],
    [send_stream(Feed, JID, close) || JID <- Over],
    (emptied(Feed))#feed{dropping = false, missed = 0}.

copied(_JID, Copy, #feed{link = {_, _}} = Feed) -> send(Feed, Copy), Feed;
copied(_JID, _Copy, #feed{dropping = true, missed = Missed} = Feed) -> Feed#feed{missed = Missed + 1};
copied(JID, {xmlel, Name, Attrs, Children}, #feed{held = Held, count = Count, bytes = Bytes} = Feed) ->
    Copy = {xmlel, Name, Attrs ++ [{<<"held">>, xmpp_util:encode_timestamp(os:timestamp())}], Children},
    Size = byte_size(fxml:element_to_binary(Copy)),
    case Count =:= ?HOLD_COPIES orelse Bytes + Size > ?HOLD_BYTES of
        true ->
            #feed{missed = Missed} = Lost = lose(Feed),
            Lost#feed{missed = Missed + 1};
        false ->
            Expiry = case Held of [] -> erlang:start_timer(?HOLD_MS, self(), held); _ -> Feed#feed.expiry end,
            Feed#feed{held = [{JID, Copy} | Held], count = Count + 1, bytes = Bytes + Size, expiry = Expiry}
    end.

lose(#feed{count = Count, missed = Missed} = Feed) ->
    (emptied(Feed))#feed{dropping = true, missed = Missed + Count}.

%% A timer that goes on is not the one awaited any more.
emptied(Feed) -> Feed#feed{held = [], count = 0, bytes = 0, expiry = none}.

%%% What the component sends in the name of users and of the server (XEP-0356)

component_send({Packet, State} = Acc) when element(1, Packet) =:= iq; element(1, Packet) =:= message ->
    case asked(Packet) of
        [] -> Acc;
        [Element | _] ->
            {_, Component, _} = jid:tolower(xmpp:get_from(Packet)),
            {_, Host, _} = To = jid:tolower(xmpp:get_to(Packet)),
            case {lists:member(Host, feeds(Component)), gen_mod:is_loaded(Host, mod_privilege)} of
                {true, _} -> privileged(Packet, Element, To), {drop, State};
                {false, true} -> Acc; % what others may is for that to say
                {false, false} -> refuse(Packet), {drop, State}
            end
    end;
component_send(Acc) -> Acc.

asked(Packet) ->
    [Element || xmpp:get_type(Packet) =/= error, xmpp:get_type(Packet) =/= result,
                {xmlel, Name, Attrs, _} = Element <- elements(Packet),
                lists:member({Name, attribute(<<"xmlns">>, Attrs)},
                             [{<<"privileged_iq">>, ?PRIVILEGE}, {<<"privilege">>, ?PRIVILEGE}, {<<"leave">>, ?FEED}])].

%% What is routed to the process of a stream that ends is lost: so the component asks for an end of it first.
privileged(_Packet, {xmlel, <<"leave">>, _, _}, {_, Host, _}) -> tell(Host, {leave, self()});
privileged(Packet, {xmlel, <<"privileged_iq">>, _, Children}, To) when element(1, Packet) =:= iq ->
    case [user_iq(IQ, To) || {xmlel, <<"iq">>, _, _} = IQ <- Children] of
        [{ok, IQ}] ->
            ejabberd_router:route_iq(IQ, fun(Answer) -> answer(Packet, xmpp:get_id(IQ), Answer) end);
        _ -> refuse(Packet)
    end;
privileged(Packet, {xmlel, <<"privilege">>, _, Children}, To) when element(1, Packet) =:= message ->
    case [notice(Message, To) || {xmlel, <<"forwarded">>, _, [_ | _] = Inner} <- Children,
                                 {xmlel, <<"message">>, _, _} = Message <- Inner] of
        [{ok, Message}] -> ejabberd_router:route(xmpp:put_meta(Message, archive_feed_notice, true));
        _ -> refuse(Packet)
    end;
privileged(Packet, _, _) -> refuse(Packet).

refuse(Packet) -> ejabberd_router:route_error(Packet, xmpp:err_forbidden()).

%% A user's iq to his own account or to one of his resources, with a payload that archives need.
user_iq(Element, {Name, _, _} = User) ->
    try
        true = Name =/= <<>>,
        IQ = xmpp:decode(Element, ?CLIENT, [ignore_els]),
        To = jid:tolower(or_else(xmpp:get_to(IQ), jid:make(User))),
        [{xmlel, _, Attrs, _}] = xmpp:get_els(IQ),
        true = lists:member(attribute(<<"xmlns">>, Attrs), [?PUBSUB, <<?PUBSUB/binary, "#owner">> | ?ARCHIVES]),
        true = lists:member(xmpp:get_type(IQ), [get, set]),
        User = jid:tolower(or_else(xmpp:get_from(IQ), jid:make(User))),
        User = jid:remove_resource(To),
        {ok, xmpp:set_from_to(IQ, jid:make(User), jid:make(To))}
    catch error:_ -> refused
    end.

%% A message of the host itself to one of its users.
notice(Element, {_, Host, _} = To) ->
    try
        {<<>>, Host, <<>>} = To,
        Message = xmpp:decode(Element, ?CLIENT, [ignore_els]),
        To = jid:tolower(xmpp:get_from(Message)),
        {<<_, _/binary>>, Host, _} = jid:tolower(xmpp:get_to(Message)),
        {ok, Message}
    catch error:_ -> refused
    end.

answer(Asked, _ID, timeout) -> ejabberd_router:route_error(Asked, xmpp:err_remote_server_timeout());
answer(Asked, ID, Answer) ->
    %% route_iq gave it an id of its own; it goes back under the one that the component chose.
    Forwarded = forwarded(xmpp:set_id(Answer, ID)),
    Privilege = {xmlel, <<"privilege">>, [{<<"xmlns">>, ?PRIVILEGE}], [Forwarded]},
    ejabberd_router:route(xmpp:set_els(xmpp:make_iq_result(Asked), [Privilege])).

or_else(undefined, Default) -> Default;
or_else(Value, _Default) -> Value.

%% Elements as they came: ejabberd has decoded them where validate_stream is set.
elements(Packet) ->
    [case Element of {xmlel, _, _, _} -> Element; _ -> xmpp:encode(Element) end || Element <- xmpp:get_els(Packet)].

attribute(Name, Attrs) -> proplists:get_value(Name, Attrs, <<>>).
