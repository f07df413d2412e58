import java.io.IOException;
import java.io.OutputStream;
import java.nio.channels.ServerSocketChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Properties;
import javax.servlet.http.HttpServletRequest;
import javax.servlet.http.HttpServletResponse;
import org.eclipse.jetty.server.Request;
import org.eclipse.jetty.server.Server;
import org.eclipse.jetty.server.ServerConnector;
import org.eclipse.jetty.server.handler.AbstractHandler;
import org.eclipse.jetty.server.handler.StatisticsHandler;
import org.eclipse.jetty.util.thread.QueuedThreadPool;

/** Says who answers. With ?delay=3000ms it takes three seconds to send it all. */
class Web extends AbstractHandler {
    private static final String CONFIGURATION = "/etc/web.properties";
    private static final int PARTS = 10;
    private final byte[] answer;

    Web(String answer) {
        String text = "pid " + ProcessHandle.current().pid() + " " + answer + "\n";
        this.answer = text.getBytes(StandardCharsets.US_ASCII);
    }

    public static void main(String[] words) throws Exception {
        Server server;
        try {
            server = configured();
        } catch (Exception error) {
            // In one line, which `seamless-run status` shows.
            System.err.println(CONFIGURATION + ": " + error);
            System.exit(1);
            return;
        }
        if (words.length > 0) {
            return; // check: that was all that can be wrong with it
        }

        // Without one Jetty would open a port of its own, and be ready there.
        if (!(System.inheritedChannel() instanceof ServerSocketChannel)) {
            throw new IllegalStateException("descriptor 0 is no listening socket");
        }
        ServerConnector connector = new ServerConnector(server);
        connector.setInheritChannel(true); // descriptor 0, which is --listen of the run script
        server.addConnector(connector);
        server.start();
        Runtime.getRuntime().addShutdownHook(new Thread(() -> drain(server, connector)));
        server.join();
    }

    private static Server configured() throws IOException {
        Properties properties = new Properties();
        try (var file = Files.newInputStream(Path.of(CONFIGURATION))) {
            properties.load(file);
        }
        Server server = new Server(new QueuedThreadPool(Integer.parseInt(properties.getProperty("threads"))));
        // It counts the requests in hand: without it stop() cuts them off.
        StatisticsHandler inHand = new StatisticsHandler();
        inHand.setHandler(new Web(properties.getProperty("answer")));
        server.setHandler(inHand);
        // No less than --drain-timeout of the run script.
        server.setStopTimeout(600_000);
        return server;
    }

    /** On TERM: the JVM ends when this has returned. */
    private static void drain(Server server, ServerConnector connector) {
        try {
            // Accept no more. From now on 0, 1 and 2 are /dev/null: whoever logs to stderr has said its last.
            connector.close();
            // Those who have connected get a second to ask: after stop() they would hear 503, or nothing.
            Thread.sleep(1000);
            server.stop();
        } catch (Exception error) {
            Runtime.getRuntime().halt(1);
        }
    }

    @Override
    public void handle(String target, Request base, HttpServletRequest request, HttpServletResponse response)
            throws IOException {
        base.setHandled(true);
        String delay = request.getParameter("delay");
        int parts = delay == null ? 1 : PARTS;
        response.setContentType("text/plain");
        response.setContentLength(answer.length * parts);
        OutputStream body = response.getOutputStream();
        for (int part = 0; part < parts; part++) {
            if (delay != null) {
                sleep(Integer.parseInt(delay.replace("ms", "")) / PARTS);
            }
            body.write(answer);
            body.flush();
        }
    }

    private static void sleep(int milliseconds) throws IOException {
        try {
            Thread.sleep(milliseconds);
        } catch (InterruptedException error) {
            throw new IOException(error);
        }
    }
}
