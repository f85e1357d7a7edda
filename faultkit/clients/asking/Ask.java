// Java: HttpURLConnection, or java.net.http's HttpClient.

import java.net.HttpURLConnection;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.time.Duration;

public class Ask {
    interface Asker {
        int ask(String url, byte[] body) throws Exception;
    }

    static Asker urlConnection(int limitMillis) {
        return (url, body) -> {
            HttpURLConnection connection = (HttpURLConnection) URI.create(url).toURL().openConnection();
            connection.setConnectTimeout(limitMillis);
            connection.setReadTimeout(limitMillis);
            if (body != null) {
                connection.setDoOutput(true);
                connection.setFixedLengthStreamingMode(body.length);
                connection.getOutputStream().write(body);
            }
            return connection.getInputStream().readAllBytes().length;
        };
    }

    static Asker httpClient(int limitMillis) {
        Duration limit = Duration.ofMillis(limitMillis);
        HttpClient client = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).connectTimeout(limit).build();
        return (url, body) -> {
            HttpRequest.Builder request = HttpRequest.newBuilder(URI.create(url)).timeout(limit);
            if (body != null) {
                request.POST(HttpRequest.BodyPublishers.ofByteArray(body));
            }
            return client.send(request.build(), HttpResponse.BodyHandlers.ofByteArray()).body().length;
        };
    }

    public static void main(String[] given) throws Exception {
        int limitMillis = (int) (Double.parseDouble(given[1]) * 1000);
        int upload = Integer.parseInt(given[2]);
        Asker asker = given[0].equals("HttpClient") ? httpClient(limitMillis) : urlConnection(limitMillis);
        for (int at = 3; at < given.length; at++) {
            byte[] body = upload > 0 && at == given.length - 1 ? new byte[upload] : null;
            System.out.println(asker.ask(given[at], body));
        }
    }
}
