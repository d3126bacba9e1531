import com.fasterxml.jackson.databind.ObjectMapper;
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpsConfigurator;
import com.sun.net.httpserver.HttpsServer;
import java.io.FileInputStream;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyFactory;
import java.security.KeyPairGenerator;
import java.security.KeyStore;
import java.security.PrivateKey;
import java.security.Signature;
import java.security.spec.PKCS8EncodedKeySpec;
import java.security.spec.X509EncodedKeySpec;
import java.time.Instant;
import java.util.Base64;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.UUID;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.SSLContext;
import org.eclipse.edc.connector.dataplane.spi.Endpoint;
import org.eclipse.edc.connector.dataplane.spi.iam.DataPlaneAuthorizationService;
import org.eclipse.edc.connector.dataplane.spi.iam.PublicEndpointGeneratorService;
import org.eclipse.edc.edr.spi.store.EndpointDataReferenceStore;
import org.eclipse.edc.policy.engine.spi.AtomicConstraintRuleFunction;
import org.eclipse.edc.policy.engine.spi.PolicyContext;
import org.eclipse.edc.policy.engine.spi.PolicyEngine;
import org.eclipse.edc.policy.engine.spi.RuleBindingRegistry;
import org.eclipse.edc.policy.model.Permission;
import org.eclipse.edc.protocol.spi.DefaultParticipantIdExtractionFunction;
import org.eclipse.edc.runtime.metamodel.annotation.Inject;
import org.eclipse.edc.runtime.metamodel.annotation.Provider;
import org.eclipse.edc.spi.iam.AudienceResolver;
import org.eclipse.edc.spi.iam.ClaimToken;
import org.eclipse.edc.spi.iam.IdentityService;
import org.eclipse.edc.spi.iam.TokenParameters;
import org.eclipse.edc.spi.iam.TokenRepresentation;
import org.eclipse.edc.spi.iam.VerificationContext;
import org.eclipse.edc.spi.result.Result;
import org.eclipse.edc.spi.security.Vault;
import org.eclipse.edc.spi.system.ServiceExtension;
import org.eclipse.edc.spi.system.ServiceExtensionContext;
import org.eclipse.edc.spi.types.domain.DataAddress;

/**
 * What an EDC connector needs to be a member of an alliance: its bearer tokens, and the public end of its data plane,
 * which the distribution leaves to others. FORMATS.md, "Bearer token".
 */
public class Connector implements ServiceExtension {
    private static final String EDC = "https://w3id.org/edc/v0.0.1/ns/";
    private static final Base64.Encoder BASE64URL = Base64.getUrlEncoder().withoutPadding();

    @Inject
    private Vault vault;
    @Inject
    private PublicEndpointGeneratorService endpoints;
    @Inject
    private DataPlaneAuthorizationService authorization;
    @Inject
    private EndpointDataReferenceStore references;
    @Inject
    private PolicyEngine policies;
    @Inject
    private RuleBindingRegistry bindings;

    private ServiceExtensionContext context;

    @Override
    public void initialize(ServiceExtensionContext context) {
        this.context = context;
        try {
            storeTokenKeys();
            bindTerms();
            var address = URI.create(context.getConfig().getString("crosspark.public"));
            endpoints.addGeneratorFunction("HttpData", source -> Endpoint.url(address.toString()));
            servePublicly(address);
        } catch (Exception error) {
            throw new IllegalStateException(error);
        }
    }

    /** EDC accepts only terms in policies for which it has functions. Here they hold for everybody. */
    private void bindTerms() {
        for (var term : List.of("recipient", "purpose", "dateTime", "count", "deliveryChannel")) {
            for (var spelling : List.of(term, "http://www.w3.org/ns/odrl/2/" + term)) {
                bindings.bind(spelling, PolicyEngine.ALL_SCOPES);
                AtomicConstraintRuleFunction<Permission, PolicyContext> holds = (operator, right, rule, context) -> true;
                policies.registerFunction(PolicyContext.class, Permission.class, spelling, holds);
            }
        }
    }

    @Provider
    public AudienceResolver audienceResolver() {
        return message -> Result.success(message.getCounterPartyId());
    }

    @Provider
    public DefaultParticipantIdExtractionFunction participantId() {
        return token -> token.getStringClaim("iss");
    }

    @Provider
    public IdentityService identityService(ServiceExtensionContext context) {
        return new Tokens(context);
    }

    /** Creates and checks the tokens of messages: JWTs signed with Ed25519. */
    private record Tokens(ServiceExtensionContext context) implements IdentityService {
        @Override
        public Result<TokenRepresentation> obtainClientCredentials(String participant, TokenParameters parameters) {
            try {
                var config = context.getConfig();
                var header = Map.of("alg", "EdDSA", "typ", "JWT", "kid", config.getString("crosspark.token.kid"));
                var now = Instant.now().getEpochSecond();
                var claims = Map.of(
                        "iss", config.getString("edc.participant.id"), "aud", parameters.getStringClaim("aud"),
                        "iat", now, "exp", now + 120, "jti", UUID.randomUUID().toString());
                var signed = base64url(json(header)) + "." + base64url(json(claims));
                var signature = Signature.getInstance("Ed25519");
                signature.initSign(privateKey(Path.of(config.getString("crosspark.token.key"))));
                signature.update(signed.getBytes(StandardCharsets.US_ASCII));
                var token = "Bearer " + signed + "." + BASE64URL.encodeToString(signature.sign());
                return Result.success(TokenRepresentation.Builder.newInstance().token(token).expiresIn(120L).build());
            } catch (Exception error) {
                return Result.failure("no token: " + error);
            }
        }

        @Override
        public Result<ClaimToken> verifyJwtToken(String participant, TokenRepresentation token, VerificationContext scope) {
            try {
                var parts = token.getToken().replaceFirst("^Bearer ", "").split("\\.");
                var keys = new Properties();
                try (var file = new FileInputStream(context.getConfig().getString("crosspark.peers"))) {
                    keys.load(file);
                }
                var kid = text(parts[0], "kid");
                var issuer = text(parts[1], "iss");
                if (!kid.startsWith(issuer + "#") || !keys.containsKey(kid)) {
                    return Result.failure("unknown key " + kid);
                }
                var spki = new X509EncodedKeySpec(Base64.getDecoder().decode(keys.getProperty(kid)));
                var signature = Signature.getInstance("Ed25519");
                signature.initVerify(KeyFactory.getInstance("Ed25519").generatePublic(spki));
                signature.update((parts[0] + "." + parts[1]).getBytes(StandardCharsets.US_ASCII));
                if (!signature.verify(Base64.getUrlDecoder().decode(parts[2]))) {
                    return Result.failure("the signature is not " + kid + "'s");
                }
                if (!text(parts[1], "aud").equals(context.getConfig().getString("edc.participant.id"))) {
                    return Result.failure("a token for " + text(parts[1], "aud"));
                }
                if (Long.parseLong(text(parts[1], "exp")) < Instant.now().getEpochSecond()) {
                    return Result.failure("the token has expired");
                }
                return Result.success(ClaimToken.Builder.newInstance().claim("iss", issuer).build());
            } catch (Exception error) {
                return Result.failure("an invalid token: " + error);
            }
        }
    }

    /** The public end of the data plane, and for the test what this connector's own consumer gets. */
    private void servePublicly(URI address) throws Exception {
        var config = context.getConfig();
        var password = config.getString("edc.web.https.keystore.password").toCharArray();
        var store = KeyStore.getInstance("PKCS12");
        try (var file = new FileInputStream(config.getString("edc.web.https.keystore.path"))) {
            store.load(file, password);
        }
        var keys = KeyManagerFactory.getInstance(KeyManagerFactory.getDefaultAlgorithm());
        keys.init(store, password);
        var tls = SSLContext.getInstance("TLSv1.3");
        tls.init(keys.getKeyManagers(), null, null);
        var server = HttpsServer.create(new InetSocketAddress(address.getHost(), address.getPort()), 0);
        server.setHttpsConfigurator(new HttpsConfigurator(tls));
        server.createContext(address.getPath(), exchange -> answer(exchange, this::provided));
        server.createContext("/consumed", exchange -> answer(exchange, this::consumed));
        server.start();
    }

    private record Answer(int status, byte[] body) {
        static Answer refused(String reason) {
            return new Answer(403, reason.getBytes(StandardCharsets.UTF_8));
        }
    }

    private interface Handler {
        Answer handle(HttpExchange exchange) throws Exception;
    }

    private void answer(HttpExchange exchange, Handler handler) throws IOException {
        try (exchange) {
            Answer answer;
            try {
                answer = handler.handle(exchange);
            } catch (Exception error) {
                answer = Answer.refused(error.toString());
            }
            exchange.getResponseHeaders().add("Content-Type", "application/x-ndjson");
            exchange.sendResponseHeaders(answer.status, answer.body.length == 0 ? -1 : answer.body.length);
            exchange.getResponseBody().write(answer.body);
        }
    }

    /** Data of an asset, for a token of this connector's data plane. */
    private Answer provided(HttpExchange exchange) throws Exception {
        var token = exchange.getRequestHeaders().getFirst("Authorization");
        var authorized = authorization.authorize(token == null ? "" : token.replaceFirst("^Bearer ", ""), Map.of());
        if (authorized.failed()) {
            return Answer.refused(authorized.getFailureDetail());
        }
        return get(authorized.getContent().getStringProperty("baseUrl"), null);
    }

    /** Fetches the data of the transfer /consumed/ID from its provider, as a consumer of this connector does. */
    private Answer consumed(HttpExchange exchange) throws Exception {
        var transfer = exchange.getRequestURI().getPath().substring("/consumed/".length());
        var found = references.resolveByTransferProcess(transfer);
        if (found.failed()) {
            return Answer.refused(found.getFailureDetail());
        }
        DataAddress reference = found.getContent();
        return get(reference.getStringProperty(EDC + "endpoint"), reference.getStringProperty(EDC + "authorization"));
    }

    private static Answer get(String address, String token) throws Exception {
        var request = HttpRequest.newBuilder(URI.create(address));
        if (token != null) {
            request.header("Authorization", "Bearer " + token);
        }
        var client = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();
        var response = client.send(request.build(), HttpResponse.BodyHandlers.ofByteArray());
        return new Answer(response.statusCode(), response.body());
    }

    /** Keys of the data plane's own tokens. */
    private void storeTokenKeys() throws Exception {
        var generator = KeyPairGenerator.getInstance("EC");
        generator.initialize(256);
        var pair = generator.generateKeyPair();
        vault.storeSecret("data-plane-private", pem("PRIVATE KEY", pair.getPrivate().getEncoded()));
        vault.storeSecret("data-plane-public", pem("PUBLIC KEY", pair.getPublic().getEncoded()));
    }

    private static String pem(String label, byte[] der) {
        var lines = Base64.getMimeEncoder(64, "\n".getBytes(StandardCharsets.US_ASCII)).encodeToString(der);
        return "-----BEGIN " + label + "-----\n" + lines + "\n-----END " + label + "-----\n";
    }

    private static PrivateKey privateKey(Path file) throws Exception {
        return KeyFactory.getInstance("Ed25519").generatePrivate(new PKCS8EncodedKeySpec(Files.readAllBytes(file)));
    }

    private static byte[] json(Map<String, ?> members) throws Exception {
        return new ObjectMapper().writeValueAsBytes(members);
    }

    private static String base64url(byte[] bytes) {
        return BASE64URL.encodeToString(bytes);
    }

    private static String text(String part, String name) throws IOException {
        var json = Base64.getUrlDecoder().decode(part);
        return new ObjectMapper().readTree(json).path(name).asText();
    }
}
